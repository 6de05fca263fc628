"""Findings of the checks, and the checks run side by side, each with a timeout."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from maxgate.doctor.host import Host
from maxgate.settings import Settings

Level = Literal["ok", "warning", "error"]

CHECK_TIMEOUT: Final = 20.0
"""Seconds that each check may take."""
MAX_CLOCK_DIFFERENCE: Final = 5.0
"""Seconds; HTTP has times in whole seconds, and busy servers update theirs late."""
_MIN_SECRET_LENGTH: Final = 4
"""Shorter text is not hidden: it occurs in messages by chance."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A result of a check.

    `code` identifies the kind of problem for programs, `text` names the value and what is wrong
    with it, and `remedy` is the command or setting that solves it. Both are empty for `ok`.
    `check` is filled in by `run_checks`.
    """

    level: Level
    text: str
    code: str = ""
    remedy: str = ""
    check: str = ""

    def in_check(self, name: str) -> "Finding":
        """Return the finding as one of this check."""
        return replace(self, check=name)


def ok(text: str) -> Finding:
    """Build the finding of a check without problems."""
    return Finding("ok", text)


def warning(code: str, text: str, remedy: str) -> Finding:
    """Build a finding about what works, but is risky or wasteful."""
    return Finding("warning", text, code, remedy)


def error(code: str, text: str, remedy: str) -> Finding:
    """Build a finding about what does not work, or is open to attack."""
    return Finding("error", text, code, remedy)


def count(number: int, noun: str) -> str:
    """Format a number of things, such as `1 worker` and `2 workers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, slots=True)
class Subject:
    """The installation to check.

    `url` is that of the running gateway, None if none runs; `key` authenticates requests to it.
    `tls_folder` is where `maxgate certs dev` writes certificates.
    """

    settings: Settings
    host: Host
    url: str | None = None
    key: str = ""
    tls_folder: Path = Path("deploy/tls")
    config_files: Sequence[Path] = ()

    @property
    def state_dir(self) -> Path:
        """The folder of durable state, without `~`."""
        return self.settings.state_dir.expanduser()

    def list_secrets(self) -> set[str]:
        """Return all secrets in the settings, which no finding may show."""
        settings = self.settings
        urls = [engine.url for engine in settings.engines]
        urls += [url for url in (settings.database.url, settings.redis.url, self.url) if url]
        secrets = {pepper.get_secret_value() for pepper in settings.auth.pepper}
        for secret in (settings.alerts.webhook_secret, settings.auth.metrics_key):
            if secret is not None:
                secrets.add(secret.get_secret_value())
        passwords = {urlsplit(url).password or "" for url in urls}
        secrets |= passwords | {unquote(password) for password in passwords} | {self.key}
        return {secret for secret in secrets if len(secret) >= _MIN_SECRET_LENGTH}


Check = Callable[[Subject], Awaitable[list[Finding]]]


async def run_checks(
    checks: Iterable[tuple[str, Check]],
    subject: Subject,
    *,
    on_done: Callable[[str, int], None] = lambda _name, _left: None,
    timeout: float = CHECK_TIMEOUT,  # noqa: ASYNC109  # of each check
) -> list[Finding]:
    """Run the checks at the same time and return their findings in the order of the checks.

    A check that raises or exceeds the timeout is an error by itself. `on_done` is called with the
    name of each check that has ended, and the number of those that run.
    """
    named = list(checks)
    left = len(named)

    async def run(name: str, check: Check) -> list[Finding]:
        nonlocal left
        try:
            async with asyncio.timeout(timeout):
                findings = await check(subject)
        except TimeoutError:
            findings = [
                error(
                    "check_timeout",
                    f"no result within {timeout:g} s",
                    "look for a server or file system that does not respond",
                )
            ]
        except Exception as reason:  # noqa: BLE001  # the other checks are to go on
            findings = [
                error(
                    "check_failed",
                    f"the check failed: {type(reason).__name__}: {reason}",
                    "report it as a bug of maxgate",
                )
            ]
        left -= 1
        on_done(name, left)
        return [finding.in_check(name) for finding in findings]

    results = await asyncio.gather(*[run(name, check) for name, check in named])
    secrets = subject.list_secrets()
    return [_hide(finding, secrets) for findings in results for finding in findings]


def _hide(finding: Finding, secrets: Iterable[str]) -> Finding:
    text, remedy = finding.text, finding.remedy
    for secret in sorted(secrets, key=len, reverse=True):
        text, remedy = text.replace(secret, "***"), remedy.replace(secret, "***")
    return replace(finding, text=text, remedy=remedy)


def compare_clocks(name: str, theirs: float, sent_at: float, now: float) -> list[Finding]:
    """Return a warning if another machine's clock differs; all times are in Unix seconds.

    Its time was read between `sent_at` and `now`, which may be far apart on a slow network.
    """
    difference = theirs - min(max(theirs, sent_at), now)
    if abs(difference) <= MAX_CLOCK_DIFFERENCE:
        return []
    direction = "ahead of" if difference > 0 else "behind"
    seconds = abs(difference)
    amount = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return [
        warning(
            "clock_differs",
            f"the clock of {name} is {amount} {direction} that of this machine",
            "synchronize the clocks of both machines: `timedatectl set-ntp true`",
        )
    ]
