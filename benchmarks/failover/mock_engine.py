"""A mock engine as a process of its own: it continues prompts, and fails on demand.

    python -m benchmarks.failover.mock_engine PORT [--fault FAULT] [--pause SECONDS]

Speaks MAX's `/v1/models` and `/v1/completions`. Token number n of every response has the id
1000 + n and the text ` n`; a prompt that ends with such ids is continued after them.
"""

import argparse
import asyncio
import os
from typing import Any, Final, Literal

import orjson
import uvicorn

Fault = Literal["none", "500", "503", "hang", "slow", "reset", "flap"]
MODEL: Final = "smollm2-135m-instruct"
FIRST_ID: Final = 1000
_SLOW: Final = 10
_FLAP_SECONDS: Final = 2.0


class MockEngine:
    """An ASGI application with one fault, if any; `calls` counts requests."""

    def __init__(self, fault: Fault, pause: float) -> None:
        self._fault = fault
        self._pause = pause * (_SLOW if fault == "slow" else 1)
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": message["type"] + ".complete"})
            return
        if scope["path"] == "/v1/models":
            models = {"data": [{"id": MODEL, "created": 1, "max_model_len": 8192}]}
            await _respond(send, 200, models)
            return
        if scope["path"] == "/calls":
            await _respond(send, 200, {"calls": self.calls})
            return
        body = await _read(receive)
        if body.get("user") == "maxgate-probe":
            await _respond(send, 400, {"error": {"message": "not supported"}})
            return
        self.calls += 1
        if not await self._fail(receive, send):
            await self._generate(body, send)

    async def _fail(self, receive: Any, send: Any) -> bool:
        fault = self._fault
        if fault == "flap":
            is_down = asyncio.get_running_loop().time() % (2 * _FLAP_SECONDS) < _FLAP_SECONDS
            fault = "500" if is_down else "none"
        if fault in {"500", "503"}:
            await _respond(send, int(fault), {"error": {"message": "failed"}})
        elif fault == "hang":
            await receive()
        elif fault == "reset":
            raise ConnectionResetError
        else:
            return False
        return True

    async def _generate(self, body: dict[str, Any], send: Any) -> None:
        limit, done = body.get("max_tokens", 16), _count_generated(body["prompt"])
        if not body.get("stream"):
            await asyncio.sleep(self._pause * limit)
            text = "".join(f" {n}" for n in range(done, done + limit))
            choice = {"index": 0, "text": text, "finish_reason": "length"}
            await _respond(send, 200, {"choices": [choice], "usage": _usage(limit)})
            return
        headers = [(b"content-type", b"text/event-stream")]
        await asyncio.sleep(self._pause)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(done, done + limit):
            last = number == done + limit - 1
            choice = {
                "token_ids": [FIRST_ID + number],
                "index": 0,
                "text": f" {number}",
                "finish_reason": "length" if last else None,
            }
            await _send_event(send, orjson.dumps({"choices": [choice], "usage": None}))
            await asyncio.sleep(self._pause)
        await _send_event(send, orjson.dumps({"choices": [], "usage": _usage(limit)}))
        await _send_event(send, b"[DONE]")
        await send({"type": "http.response.body", "body": b""})


def _count_generated(prompt: list[int]) -> int:
    last = prompt[-1] - FIRST_ID if prompt else -1
    return (
        last + 1
        if last >= 0 and prompt[-1 - last :] == [*range(FIRST_ID, FIRST_ID + last + 1)]
        else 0
    )


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}


async def _read(receive: Any) -> dict[str, Any]:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            found: dict[str, Any] = orjson.loads(body)
            return found


async def _send_event(send: Any, data: bytes) -> None:
    await send({"type": "http.response.body", "body": b"data: %b\n\n" % data, "more_body": True})


async def _respond(send: Any, status: int, fields: dict[str, Any]) -> None:
    body = orjson.dumps(fields)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--fault", default="none")
    parser.add_argument("--pause", type=float, default=0.002, help="seconds for each token")
    options = parser.parse_args()
    os.setpgid(0, 0)
    engine = MockEngine(options.fault, options.pause)
    uvicorn.run(engine, port=options.port, log_level="critical", ws="none", loop="uvloop")


if __name__ == "__main__":
    main()
