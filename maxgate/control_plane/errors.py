"""Errors of changes at run time."""

from typing import Any

from maxgate.errors import GatewayError, NotSupported


class ChangesNotSupported(NotSupported):
    """The change needs the parent process of `maxgate serve`, which this gateway has not."""

    def __init__(self) -> None:
        super().__init__(
            "Engines cannot be changed at run time here, because several worker processes run "
            "without the parent process of `maxgate serve`. Start the gateway with it, or with "
            "one worker."
        )


class ChangesNotSaved(GatewayError):
    """The change could not be saved, so that it was not made."""

    status = 500
    default_code = "changes_not_saved"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The change was not made, because it could not be saved: {reason}.")


class NotConfirmed(GatewayError):
    """The change is saved, but some workers have not confirmed it."""

    status = 504
    default_code = "not_confirmed"

    def __init__(self, missing: int, total: int, timeout: float) -> None:
        super().__init__(
            f"The change is saved, but {missing} of {total} workers did not confirm it within "
            f"{timeout:g} s. They make it once they respond, or when they are replaced."
        )


class ParentUnreachable(GatewayError):
    """A worker has no connection to the parent process, so that the request was not made."""

    status = 503
    default_code = "parent_unreachable"

    def __init__(self) -> None:
        super().__init__(
            "The parent process of the gateway is not connected, and nothing was changed. "
            "Try again shortly.",
            retry_after=1,
        )


class NoReply(GatewayError):
    """The parent process got a request and did not reply in time, or ended meanwhile."""

    status = 504
    default_code = "no_reply"

    def __init__(self) -> None:
        super().__init__(
            "The parent process of the gateway did not reply in time. A change may be made all the "
            "same: list the engines before you try again."
        )


class _ForwardedError(GatewayError):
    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(
            fields["message"],
            param=fields["param"],
            code=fields["code"],
            retry_after=fields["retry_after"],
        )
        self.status = fields["status"]  # type: ignore[misc]  # of this one error
        self.type = fields["type"]  # type: ignore[misc]


def dump_error(error: GatewayError) -> dict[str, Any]:
    """Return the error as plain data."""
    return {
        "status": error.status,
        "type": error.type,
        "message": error.message,
        "param": error.param,
        "code": error.code,
        "retry_after": error.retry_after,
    }


def load_error(fields: dict[str, Any]) -> GatewayError:
    """Return an error that responds like the one of which these are the data."""
    return _ForwardedError(fields)
