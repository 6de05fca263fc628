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
        date = _date(text)
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError(
            f"--start-at {text}: expected 2030-01-31T12:00:00Z or seconds since 1970"
        ) from None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _date(text: str) -> datetime:
    try:
        seconds = float(text)
    except ValueError:
        return datetime.fromisoformat(text)
    return datetime.fromtimestamp(seconds, UTC)
