"""The scripts that run nginx and reload it when the replicas of the gateway change."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.nginx_server import CONFIGURATION
from tests.fakes.waiting import until_holds

# A shell would ignore SIGQUIT in the background; nginx does not.
FAKE_NGINX = f"""\
#!{sys.executable}
import os, signal, sys
def write(text):
    with open(os.environ["EVENTS"], "a") as file:
        file.write(text)
signal.signal(signal.SIGHUP, lambda *_: write("reload\\n"))
signal.signal(signal.SIGQUIT, lambda *_: sys.exit(0))
write("start\\n")
while True:
    signal.pause()
"""


async def test_watch_replicas(tmp_path: Path) -> None:
    """Replicas that get an address start nginx, and other addresses reload it."""
    addresses, events = tmp_path / "addresses", tmp_path / "events"
    programs = {"getent": f'#!/bin/sh\ncat "{addresses}"\n', "nginx": FAKE_NGINX}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        str(CONFIGURATION / "watch-replicas.sh"),
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "REPLICAS_INTERVAL": "0.05",
            "EVENTS": str(events),
        },
        stderr=asyncio.subprocess.DEVNULL,
    )

    def read_events() -> str:
        return events.read_text() if events.exists() else ""

    addresses.write_text("10.0.0.1 STREAM gateway\n10.0.0.2 STREAM gateway\n")
    await until_holds(lambda: read_events() == "start\n")
    addresses.write_text("10.0.0.2 STREAM gateway\n10.0.0.1 STREAM gateway\n")  # the same
    addresses.write_text("")  # no response
    addresses.write_text("10.0.0.2 STREAM gateway\n10.0.0.3 STREAM gateway\n")
    await until_holds(lambda: read_events() == "start\nreload\n")
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 5) == 0


_FAKE_CURL = """\
#!/bin/sh
for url; do :; done
address=${url#http://} address=${address%%:*}
cat "$REPLICAS_FOLDER/states/$address"
"""
_STATES = {
    "ready": '{"status":"ok"} 200',
    "waiting": '{"status":"not ready"} 503',
    "draining": '{"error":{"code":"server_shutting_down"}} 503',
    "down": " 000",
}


class Watcher:
    """The script of docker-compose.full.yml, with three replicas that tests put into a state.

    It looks at them when a test lets it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._looks = 1
        os.mkfifo(folder / "ticks")
        self._ticks = os.open(folder / "ticks", os.O_RDWR)

    def put(self, *states: str) -> None:
        """Set the states of the replicas."""
        for number, state in enumerate(states, 1):
            (self.folder / "states" / f"10.0.0.{number}").write_text(_STATES[state])

    async def wait(self) -> None:
        """Wait until the script has looked."""
        sleeps = self.folder / "sleeps"
        await until_holds(lambda: sleeps.exists() and len(sleeps.read_text()) >= self._looks)

    async def look(self, times: int) -> str:
        """Let the script look so often; returns the last bytes of the addresses that nginx has."""
        self._looks += times
        self.tick(times)
        await self.wait()
        servers = (self.folder / "replicas.conf").read_text()
        return "".join(re.findall(r"10\.0\.0\.(\d):", servers))

    def tick(self, times: int) -> None:
        """Let the script look so often, without waiting for it."""
        os.write(self._ticks, b"\n" * times)

    def has_reloaded(self) -> bool:
        """Whether nginx was told to read its configuration again."""
        return "reload" in (self.folder / "events").read_text()


@pytest.fixture
async def watcher(tmp_path: Path) -> AsyncIterator[Watcher]:
    """The script with three replicas that are ready."""
    programs = {
        "getent": '#!/bin/sh\nls "$REPLICAS_FOLDER/states"\n',
        "curl": _FAKE_CURL,
        "nginx": FAKE_NGINX,
        "sleep": '#!/bin/sh\ncd "$REPLICAS_FOLDER"\nprintf . >>sleeps\nread -r _ <ticks\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "states").mkdir()
    found = Watcher(tmp_path)
    found.put("ready", "ready", "ready")
    process = await asyncio.create_subprocess_exec(
        "/bin/sh",
        str(CONFIGURATION.parent / "compose" / "watch-replicas.sh"),
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "REPLICAS_FOLDER": str(tmp_path),
            "EVENTS": str(tmp_path / "events"),
        },
    )
    try:
        await until_holds((tmp_path / "events").exists)
        await found.wait()
        yield found
    finally:
        process.terminate()
        found.tick(100)
        assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_engine(watcher: Watcher) -> None:
    """Replicas that lose their engine, and get it back, one after the other, cause no reload."""
    for states in (
        ("waiting", "ready", "ready"),
        ("waiting", "waiting", "ready"),
        ("waiting", "waiting", "waiting"),
        ("ready", "waiting", "waiting"),
        ("ready", "ready", "waiting"),
        ("ready", "ready", "ready"),
    ):
        watcher.put(*states)
        assert await watcher.look(3) == "123"
    watcher.put("waiting", "waiting", "waiting")
    assert await watcher.look(10) == "123"
    assert not watcher.has_reloaded()


async def test_lost_replicas(watcher: Watcher) -> None:
    """A replica that is down or drains leaves at once; one that alone has no engine, in the end."""
    watcher.put("ready", "down", "ready")
    assert await watcher.look(1) == "13"
    watcher.put("ready", "ready", "draining")
    assert await watcher.look(1) == "12"
    watcher.put("ready", "ready", "ready")
    assert (await watcher.look(6), await watcher.look(1)) == ("12", "123")
    (watcher.folder / "draining").write_text("10.0.0.1\n")
    assert await watcher.look(1) == "23"
    (watcher.folder / "draining").write_text("")
    assert await watcher.look(7) == "123"
    watcher.put("ready", "ready", "waiting")
    assert (await watcher.look(6), await watcher.look(1)) == ("123", "12")
    watcher.put("waiting", "down", "waiting")
    assert await watcher.look(1) == "13"
    await until_holds(watcher.has_reloaded)
