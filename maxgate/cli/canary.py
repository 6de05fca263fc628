"""`maxgate engines canary`: compare a new engine with those of a running gateway."""

import json
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from maxgate.cli.admin_client import AdminRequestFailed, GatewayOption, request
from maxgate.cli.canary_report import describe_progress, describe_result

EXIT_CODES: Final = {"pass": 0, "fail": 1, "inconclusive": 3}
NOT_RUN: Final = 4
"""Exit code of a canary that could not run; 2 is that of usage errors."""
_POLL_SECONDS: Final = 1.0
_PLAIN_LINE_INTERVAL: Final = 10.0
# A gateway whose workers are being replaced may refuse a connection.
_MAX_FAILED_POLLS: Final = 10


def canary(
    url: Annotated[str, typer.Option(help="URL of the new engine.", metavar="URL")],
    *,
    share: Annotated[
        float, typer.Option(help="Share of the requests, in percent.", min=0.001, max=100)
    ] = 5,
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror",
            help="Send copies of greedy requests to the new engine. Without, it serves clients.",
        ),
    ] = False,
    requests: Annotated[
        int, typer.Option(help="End after this number of requests.", min=1, max=10_000)
    ] = 200,
    max_seconds: Annotated[
        float, typer.Option(help="End after this number of seconds.", min=1, max=86_400)
    ] = 600,
    min_agreement: Annotated[
        float, typer.Option(help="Fail if fewer responses agree, in percent.", min=0, max=99)
    ] = 95,
    max_slowdown: Annotated[
        float,
        typer.Option(help="Fail if a median time grows by more, in percent.", min=0, max=10_000),
    ] = 10,
    max_errors: Annotated[
        float,
        typer.Option(
            help="Fail if more requests fail at the new engine, in percent.", max=100, min=0
        ),
    ] = 1,
    near_tie: Annotated[
        float,
        typer.Option(help="Log probability gap below which other tokens agree.", min=0, max=20),
    ] = 0.5,
    ca_file: Annotated[
        Path | None, typer.Option(help="CA certificates to trust for the new engine, in PEM.")
    ] = None,
    gateway: GatewayOption,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare a new engine with those of a running gateway, on a share of the requests.

    Exits with 0 for the verdict pass, 1 for fail, 3 for inconclusive, 4 if the canary could not
    run, and 2 for a usage error. The canary ends with this command.
    """
    body = {
        "url": url,
        "ca_file": None if ca_file is None else str(ca_file.absolute()),
        "mirror": mirror,
        "share": share,
        "requests": requests,
        "max_seconds": max_seconds,
        "min_agreement": min_agreement,
        "max_slowdown": max_slowdown,
        "max_errors": max_errors,
        "near_tie": near_tie,
    }
    try:
        result = _Command(gateway, max_seconds).run(body)
    except AdminRequestFailed as error:
        print(f"maxgate: {error}", file=sys.stderr)
        raise typer.Exit(NOT_RUN) from error
    print(json.dumps(result, indent=2) if as_json else describe_result(result))
    raise typer.Exit(EXIT_CODES[result["verdict"]])


class _Command:
    """Starts a canary, shows its progress on stderr, and ends it."""

    def __init__(self, gateway: str, max_seconds: float) -> None:
        self._gateway = gateway
        self._max_seconds = max_seconds
        self._console = Console(stderr=True)
        self._status = self._console.status("")
        self._next_line = 0.0
        self._pause = threading.Event()

    def run(self, body: dict[str, Any]) -> Any:
        """Return the final report; raises AdminRequestFailed. Ctrl-C ends the canary early."""
        report = request("POST", self._gateway, "canary", body)
        ended = False
        try:
            with suppress(KeyboardInterrupt):
                self._follow(report)
            ended = True
            return request("DELETE", self._gateway, "canary")
        finally:
            self._status.stop()
            if not ended:
                with suppress(AdminRequestFailed):
                    request("DELETE", self._gateway, "canary")

    def _follow(self, report: Any) -> None:
        """Wait for the end; raises AdminRequestFailed if the new engine does not respond."""
        failed_polls = 0
        while not self._has_ended(report):
            self._show(report)
            self._pause.wait(_POLL_SECONDS)
            try:
                report = request("GET", self._gateway, "canary")
                failed_polls = 0
            except AdminRequestFailed:
                failed_polls += 1
                if failed_polls >= _MAX_FAILED_POLLS:
                    raise

    def _has_ended(self, report: Any) -> bool:
        if report["state"] == "starting" and report["error"] is not None:
            raise AdminRequestFailed(f"the new engine at {report['url']}: {report['error']}")
        return bool(
            report["completed"] >= report["requests"]
            or report["seconds"] >= self._max_seconds
            or report["state"] == "halted"
        )

    def _show(self, report: Any) -> None:
        text = describe_progress(report)
        if self._console.is_terminal:
            self._status.update(text)
            self._status.start()
        elif report["seconds"] >= self._next_line:
            pause = 0 if report["state"] == "starting" else _PLAIN_LINE_INTERVAL
            self._next_line = report["seconds"] + pause
            print(text, file=sys.stderr, flush=True)
