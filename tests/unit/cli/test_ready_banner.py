"""The terminal shows which engines the gateway waits for, and then how to use it."""

import asyncio

import pytest

from maxgate.cli.ready_banner import ReadyBanner
from tests.fakes.waiting import until


@pytest.mark.parametrize(
    ("started", "cause"), [((), "refused"), (("http://a", "http://c"), "starting")]
)
async def test_waiting(
    started: tuple[str, ...], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing engines are named with their causes, or as starting, before the curl command.

    Drained engines are not missing.
    """
    drained = b'{"url":"http://c","state":"draining","error":null}'
    responses = [
        b'503 x\r\n\r\n{"engines":[{"url":"http://a","state":"unreachable","error":"refused"},%b]}',
        b'200 x\r\n\r\n{"engines":[{"url":"http://a","state":"healthy","error":null},%b]}',
    ]

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + responses.pop(0) % drained)
        writer.close()

    shown: list[str] = []

    async def is_ready() -> bool:
        shown.append(capsys.readouterr().err)
        return "is ready" in shown[-1]

    listener = await asyncio.start_server(respond, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        with ReadyBanner(url, started, ["chat"]):
            await until(is_ready)
    lines = "".join(shown).splitlines()
    assert lines[:3] == [
        f"maxgate is listening on {url}, waiting for http://a ({cause})",
        "",
        f"maxgate is ready on {url} (Ctrl-C stops it). Try:",
    ]


@pytest.mark.parametrize(
    ("started", "shown_as"), [((), "not ready"), (("http://a", "http://b"), "starting")]
)
async def test_keys(
    started: tuple[str, ...], shown_as: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where clients need keys, the open probe is enough, and the curl command has a key."""
    paths: list[bytes] = []
    responses = [b'503 x\r\n\r\n{"status":"not ready"}', b'200 x\r\n\r\n{"status":"ok"}']

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.write(b"HTTP/1.1 " + responses.pop(0))
        writer.close()

    shown: list[str] = []

    async def is_ready() -> bool:
        shown.append(capsys.readouterr().err)
        return "is ready" in shown[-1]

    listener = await asyncio.start_server(respond, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    configured = ["http://a", "http://b"]
    async with listener:
        with ReadyBanner(url, started, ["chat"], needs_key=True, configured=configured):
            await until(is_ready)
    lines = "".join(shown).splitlines()
    waiting = lines[0].partition("waiting for ")[2].split(", ")
    assert sorted(waiting) == [f"http://a ({shown_as})", f"http://b ({shown_as})"]
    assert f'curl {url}/v1/chat/completions -H "Authorization: Bearer $KEY" -H' in lines[4]
    assert paths == [b"/health/ready"] * 2
