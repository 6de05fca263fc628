"""`--start-at`."""

from datetime import UTC, datetime

from maxgate.errors import ConfigurationError


def parse_start(text: str | None) -> float | None:
    """Seconds since 1970, of a number or an ISO date; a date without a zone is UTC.

    Raises ConfigurationError for anything else.
    """
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"--start-at {text}: expected 2030-01-31T12:00:00Z or seconds since 1970"
        ) from None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
