"""Each request is in the ledger exactly once, with the tokens of its engine."""

import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from maxgate.usage.folder import list_segments, list_spools
from maxgate.usage.groups import check_groups
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD, Gateway, start
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script
from tests.fakes.raw_client import connect
from tests.fakes.usage_lines import read_entries
from tests.fakes.waiting import until, until_holds

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello"}]
TOKENS = len(OUTPUT_TOKENS) + 1  # the last one ends the response


@asynccontextmanager
async def serve(
    state_dir: Path, engine: FakeMax | None = None, **usage: Any
) -> AsyncIterator[Gateway]:
    """Run a gateway with a ledger whose lines are moved often."""
    usage = {"enabled": True, "move_interval": 0.05, **usage}
    async with start(engine, state_dir=state_dir, usage=usage) as gateway:
        yield gateway


def read_rows(state_dir: Path, columns: str) -> list[Any]:
    """Return columns of all entries in the database, in the order of their end."""
    with closing(sqlite3.connect(state_dir / "maxgate.db")) as database:
        query = f"SELECT {columns} FROM usage_entries ORDER BY finished_at"  # noqa: S608
        return [row[0] if len(row) == 1 else row for row in database.execute(query)]


def read_spools(state_dir: Path) -> list[Any]:
    """Return the entries on disk."""
    return [
        entry
        for spool in list_spools(state_dir / "usage")
        for segment in list_segments(spool)
        for group in check_groups(segment.path.read_bytes()).groups
        for entry in read_entries(spool.name, group)
    ]


async def test_plain_response(tmp_path: Path) -> None:
    """A response is durable when the client has it, and is in the database soon."""
    engine = FakeMax(default=Script(counts_prompt=True))
    async with serve(tmp_path, engine, move_interval=60) as gateway:
        response = await gateway.chat(metadata={"team": "a"})
        usage = response.json()["usage"]
        [entry] = read_spools(tmp_path)
    tokens = (entry.input_tokens, entry.cached_tokens, entry.output_tokens)
    assert tokens == (
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens"],
    )
    assert entry.request_id == response.headers["x-request-id"]
    assert (entry.kind, entry.route, entry.model) == ("completions", CHAT, "smollm2-135m-instruct")
    assert (entry.project_id, entry.user_id, entry.api_key_id) == ("anonymous", "anonymous", "")
    assert (entry.outcome, entry.status, entry.is_stream, entry.attempts) == ("ok", 200, False, 1)
    assert entry.tags == {"team": "a"}
    assert 0 < entry.engine_seconds <= entry.total_seconds
    # The gateway moves what is left when it stops.
    assert read_rows(tmp_path, "request_id") == [entry.request_id]
    assert list_spools(tmp_path / "usage") == []


async def test_gpu_seconds(tmp_path: Path) -> None:
    """A request has its share of the engine: one of the slots."""
    usage, admission = {"enabled": True}, {"slots": 4}
    async with start(state_dir=tmp_path, usage=usage, admission=admission) as gateway:
        await gateway.chat()
    assert read_rows(tmp_path, "gpu_seconds = engine_seconds / 4, gpu_seconds > 0") == [(1, 1)]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_stream(tmp_path: Path, path: str) -> None:
    """The line of a stream is durable before the client gets the last event."""
    async with serve(tmp_path, move_interval=60) as gateway:
        body = {"messages": MESSAGES} if path == CHAT else {"prompt": "Hello"}
        async with gateway.client.stream("POST", path, json={**body, "stream": True}) as response:
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    break
            [entry] = read_spools(tmp_path)
    assert (entry.output_tokens, entry.outcome, entry.status) == (TOKENS, "ok", 200)
    assert entry.is_stream
    assert entry.first_token_seconds > 0


async def test_choices(tmp_path: Path) -> None:
    """The tokens of all choices and prompts count, and prompts of choices once."""
    async with serve(tmp_path) as gateway:
        plain = (await gateway.chat(n=3)).json()["usage"]
        await gateway.chat(n=2, stream=True)
        body = {"prompt": ["Hello", "Bye"], "n": 2}
        texts = (await gateway.client.post("/v1/completions", json=body)).json()["usage"]
    assert read_rows(tmp_path, "input_tokens, output_tokens, attempts") == [
        (plain["prompt_tokens"], 3 * TOKENS, 3),
        (plain["prompt_tokens"], 2 * TOKENS, 2),
        (texts["prompt_tokens"], 4 * TOKENS, 4),
    ]


async def test_embeddings(tmp_path: Path, embedding_model: Path) -> None:
    """Embeddings have their tokens, as the client gets them."""
    del embedding_model  # the gateway reads its tokenizer
    engine = FakeMax(models=[EMBEDDING_MODEL], context_length=256)
    settings = {"cards": [SMALL_CARD, EMBEDDING_CARD], "state_dir": tmp_path}
    async with start(engine, usage={"enabled": True}, **settings) as gateway:
        usage = (await gateway.embed(["Hello", "world"])).json()["usage"]
    rows = read_rows(tmp_path, "kind, model, input_tokens, output_tokens, engine_seconds > 0")
    assert rows == [("embeddings", EMBEDDING_MODEL, usage["prompt_tokens"], 0, 1)]


async def test_retry(tmp_path: Path) -> None:
    """A request with several engine calls has one line."""
    engine = FakeMax(scripts=[Script(resets=True), Script()])
    async with serve(tmp_path, engine) as gateway:
        assert (await gateway.chat()).status_code == 200
    assert read_rows(tmp_path, "attempts, output_tokens") == [(2, TOKENS)]


async def test_cut_stream(tmp_path: Path) -> None:
    """A stream that its engine cut has the tokens that the client got."""
    engine = FakeMax(default=Script(error_after=3))
    async with serve(tmp_path, engine) as gateway:
        response = await gateway.chat(stream=True)
        assert "data: [DONE]" not in response.text
    assert read_rows(tmp_path, "outcome, output_tokens") == [("truncated", 3)]


async def test_failure(tmp_path: Path) -> None:
    """A failed request has a line; one that reached no model has none."""
    engine = FakeMax(default=Script(status=400))
    async with serve(tmp_path, engine) as gateway:
        assert (await gateway.chat()).status_code == 400
        assert (await gateway.chat(model="unknown")).status_code == 404
        assert (await gateway.client.post(CHAT, content=b"{")).status_code == 400
        await gateway.client.get("/v1/models")
    rows = read_rows(tmp_path, "status, outcome, input_tokens, output_tokens")
    assert rows == [(400, "client_error", 0, 0)]


@pytest.mark.parametrize("stream", [True, False])
async def test_disconnect(tmp_path: Path, *, stream: bool) -> None:
    """A request whose client disconnects has a line with its prompt and the tokens it got."""
    engine = FakeMax(default=Script(silent_after=3, stalls_plain=True))
    async with serve(tmp_path, engine) as gateway:
        reader, writer = await connect(gateway.url)
        body = json.dumps({"messages": MESSAGES, "stream": stream}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
        writer.write(head % (len(body), body))
        await engine.arrived.wait()
        if stream:
            await reader.readuntil(b"capital")
        writer.close()
        await until_holds(lambda: read_rows(tmp_path, "1") == [1])
    [(outcome, status, *tokens)] = read_rows(
        tmp_path, "outcome, status, input_tokens, output_tokens"
    )
    assert (outcome, status) == ("client_gone", 200 if stream else 499)
    assert tokens == [31, 3 if stream else 0]


async def test_refusal(tmp_path: Path) -> None:
    """Without room for lines, requests are refused until there is room, without a restart."""
    async with serve(tmp_path, max_spool_bytes=64 * 1024) as gateway:
        ballast = tmp_path / "usage" / "ballast"
        ballast.mkdir()
        segment = ballast / f"{0:020d}.log"
        segment.write_bytes(b"x" * 64 * 1024)
        # It is noticed by the next line, whose request ends as it should.
        assert (await gateway.chat()).status_code == 200
        refused = await gateway.chat()
        calls = len(gateway.engine.requests)
        segment.unlink()

        async def is_served() -> bool:
            return (await gateway.chat()).status_code == 200

        await until(is_served)
        served = len(gateway.engine.requests) - calls
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "usage_unavailable")
    assert refused.headers["retry-after"] == "2"
    assert (calls, served) == (1, 1)
    assert read_rows(tmp_path, "status") == [200, 200]


async def test_uncounted(tmp_path: Path) -> None:
    """With `uncounted`, requests are served without room, and counted once there is room."""
    async with serve(tmp_path, max_spool_bytes=64 * 1024, on_full="uncounted") as gateway:
        ballast = tmp_path / "usage" / "ballast"
        ballast.mkdir()
        segment = ballast / f"{0:020d}.log"
        segment.write_bytes(b"x" * 64 * 1024)
        statuses = [(await gateway.chat()).status_code for _ in range(3)]
        assert read_rows(tmp_path, "1") == []
        segment.unlink()
        await until_holds(lambda: len(read_rows(tmp_path, "1")) == 3)
    assert statuses == [200, 200, 200]


async def test_killed_gateway(tmp_path: Path) -> None:
    """A gateway moves the lines of one that was killed."""
    async with serve(tmp_path, move_interval=60) as gateway:
        await gateway.chat()
        [spool] = list_spools(tmp_path / "usage")
        [segment] = list_segments(spool)
        data = segment.path.read_bytes()
    (tmp_path / "maxgate.db").unlink()
    spool.mkdir()
    (spool / segment.path.name).write_bytes(data + data[:20])
    (spool / "lock").touch()
    async with serve(tmp_path) as gateway:
        await until_holds(lambda: list_spools(tmp_path / "usage")[1:] == [])
        metrics = (await gateway.client.get("/metrics", headers={"accept": "text/plain"})).text
    assert read_rows(tmp_path, "output_tokens") == [TOKENS]
    assert "\nmaxgate_usage_lines_moved_total 1" in metrics
    assert "maxgate_usage_lines_lost_total 1" in metrics


async def test_off(tmp_path: Path) -> None:
    """Without the setting, nothing is created."""
    async with start(state_dir=tmp_path) as gateway:
        assert (await gateway.chat(metadata={"a": "b"})).status_code == 200
    assert os.listdir(tmp_path) == []  # noqa: PTH208
