"""`python api_server.py` as a process: start, shutdown, several workers and error messages."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from maxgate.settings_names import LOCATIONS
from tests.conftest import ROOT
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.processes import ServerProcess, api_server, free_port, run_to_end
from tests.fakes.server import serving
from tests.fakes.waiting import until

BODY = {"messages": [{"role": "user", "content": "Hello"}]}


async def test_banner() -> None:
    """The gateway prints a curl command that works."""
    async with (
        serving(FakeMax()) as engine,
        api_server(
            *("--engine-url", engine, "--card", str(SMALL_CARD), "--log-format", "text")
        ) as server,
    ):

        async def has_banner() -> bool:
            return any(line.startswith("curl ") for line in server.lines)

        await until(has_banner)
        [line] = [line for line in server.lines if line.startswith("curl ")]
        shell = await asyncio.create_subprocess_shell(
            line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        response, _ = await shell.communicate()
    assert b"The capital of France is Paris." in response


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_signals(number: signal.Signals, workers: str) -> None:
    """A signal ends the process and all workers."""
    async with serving(FakeMax()) as engine:
        flags = ("--engine-url", engine, "--card", str(SMALL_CARD), "--workers", workers)
        async with api_server(*flags) as server:
            children = psutil.Process(server.process.pid).children(recursive=True)
            server.process.send_signal(number)
            await asyncio.wait_for(server.process.wait(), 10)
    assert not psutil.wait_procs(children, timeout=5)[1]


async def test_killed_supervisor() -> None:
    """Workers exit when their parent process is killed."""
    async with serving(FakeMax()) as engine:
        flags = ("--engine-url", engine, "--card", str(SMALL_CARD), "--workers", "2")
        async with api_server(*flags) as server:
            children = psutil.Process(server.process.pid).children(recursive=True)
            server.process.kill()
            await server.process.wait()
            gone = await asyncio.to_thread(psutil.wait_procs, children, 10)
    assert not gone[1]


async def test_graceful_shutdown() -> None:
    """A running stream may finish before the process exits."""
    engine = FakeMax(scripts=[Script(silent_after=3)])
    async with (
        serving(engine) as engine_url,
        api_server("--engine-url", engine_url, "--card", str(SMALL_CARD)) as server,
        httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
        client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.returncode is None


@asynccontextmanager
async def stalled_requests(
    workers: str, *, shutdown_timeout: int
) -> AsyncIterator[tuple[ServerProcess, AsyncIterator[str], asyncio.Task[httpx.Response]]]:
    """A gateway with a stream and a plain request that the engine leaves unfinished."""
    engine = FakeMax(scripts=[Script(silent_after=3), Script(silent_after=0)])
    async with serving(engine) as engine_url:
        flags = ("--engine-url", engine_url, "--card", str(SMALL_CARD), "--workers", workers)
        timeout = {"MAXGATE_SERVER__SHUTDOWN_TIMEOUT": str(shutdown_timeout)}
        async with (
            api_server(*flags, "--log-format", "json", **timeout) as server,
            httpx.AsyncClient(base_url=server.url, timeout=30, verify=TLS) as client,
            client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as stream,
        ):
            lines = stream.aiter_lines()
            await anext(lines)
            plain = asyncio.create_task(client.post("/v1/chat/completions", json=BODY))

            async def has_both() -> bool:
                return len(engine.requests) == 2

            await until(has_both)
            yield server, lines, plain
            assert "Traceback" not in "".join(server.lines)


async def check_errors(
    server: ServerProcess, lines: AsyncIterator[str], plain: asyncio.Task[httpx.Response]
) -> None:
    """The stream ends with an error event, the other request with a 503, both logged."""
    error = {
        "message": "The gateway is shutting down. Retry the request.",
        "type": "server_error",
        "param": None,
        "code": "server_shutting_down",
    }
    *_, last = [line async for line in lines if line]
    assert json.loads(last.removeprefix("data: ")) == {"error": error}
    response = await plain
    assert (response.status_code, response.json()) == (503, {"error": error})
    assert response.headers["retry-after"] == "5"
    await asyncio.wait_for(server.process.wait(), 10)

    async def is_logged() -> bool:
        logged = [json.loads(line) for line in server.lines]
        ends = {(x["stream"], x["outcome"], x["error_code"]) for x in logged if "outcome" in x}
        return ends == {
            (True, "truncated", "server_shutting_down"),
            (False, "unavailable", "server_shutting_down"),
        }

    await until(is_logged)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_shutdown_timeout(workers: str) -> None:
    """Requests that are unfinished at the end of the shutdown get an error."""
    async with stalled_requests(workers, shutdown_timeout=1) as (server, lines, plain):
        server.process.send_signal(signal.SIGTERM)
        await check_errors(server, lines, plain)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_second_interrupt(workers: str) -> None:
    """The log shows what a shutdown waits for; a second Ctrl-C ends the wait with errors."""
    async with stalled_requests(workers, shutdown_timeout=60) as (server, lines, plain):
        server.process.send_signal(signal.SIGINT)

        async def is_waiting() -> bool:
            return any("up to 60 s; Ctrl-C again to stop now" in line for line in server.lines)

        await until(is_waiting)
        server.process.send_signal(signal.SIGINT)
        await check_errors(server, lines, plain)


async def test_killed_worker() -> None:
    """The end of a worker is logged with its reason."""
    async with (
        serving(FakeMax()) as engine,
        api_server(
            *("--engine-url", engine, "--card", str(SMALL_CARD)),
            *("--workers", "2", "--log-format", "json"),
        ) as server,
    ):
        worker = server.find_workers()[0]
        worker.kill()

        async def is_logged() -> bool:
            return any("worker died and was replaced" in line for line in server.lines)

        await until(is_logged, within=20)
        logged = [json.loads(line) for line in server.lines]
        [line] = [line for line in logged if line["message"] == "worker died and was replaced"]
        assert (line["pid"], line["reason"]) == (worker.pid, "SIGKILL")


async def test_worker_that_cannot_start(tmp_path: Path) -> None:
    """If no worker can start again, clients get a 503 until the file at fault is corrected."""
    card = tmp_path / "card.yaml"
    shutil.copy(SMALL_CARD, card)
    async with (
        serving(FakeMax()) as engine,
        api_server("--engine-url", engine, "--card", str(card)) as server,
        httpx.AsyncClient(
            base_url=server.url,
            verify=TLS,
            timeout=30,
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as client,
    ):
        correct = card.read_text()
        card.write_text("oops: [")
        reload = await client.post("/admin/reload")
        assert (reload.status_code, reload.json()["error"]["code"]) == (
            400,
            "invalid_configuration",
        )
        assert str(card) in reload.json()["error"]["message"]

        [worker] = server.find_workers()
        worker.kill()
        response = await client.get("/health/live")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "no_worker")
        assert response.headers["retry-after"] == "5"
        card.write_text(correct)
        await until(server.is_up, within=20)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_request_log(workers: str) -> None:
    """Every request before the shutdown is in the log."""
    async with serving(FakeMax()) as engine:
        flags = ("--engine-url", engine, "--card", str(SMALL_CARD), "--workers", workers)
        async with (
            api_server(*flags, "--log-format", "json") as server,
            httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
        ):
            posts = [client.post("/v1/chat/completions", json=BODY) for _ in range(20)]
            ids = {response.headers["x-request-id"] for response in await asyncio.gather(*posts)}
            server.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(server.process.wait(), 10)
    logged = [json.loads(line) for line in server.lines]
    assert {line["request_id"] for line in logged if "request_id" in line} == ids


async def test_metrics() -> None:
    """Metrics count the requests of all workers."""
    async with serving(FakeMax()) as engine:
        flags = ("--engine-url", engine, "--card", str(SMALL_CARD), "--workers", "2")
        async with api_server(*flags) as server:

            async def post() -> None:
                async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
                    response = await client.post("/v1/chat/completions", json=BODY)
                    assert response.status_code == 200

            async def both_are_up() -> bool:
                async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
                    return bool((await client.get("/metrics")).json()["workers"] == 2)

            await until(both_are_up, within=10)
            await asyncio.gather(*(post() for _ in range(30)))
            async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
                metrics = (await client.get("/metrics")).json()
    assert metrics["requests"]["by_outcome"] == {"ok": 30}


async def test_uvicorn() -> None:
    """The application runs under plain uvicorn."""
    port = free_port()
    async with serving(FakeMax()) as engine:
        code = (
            "import os, uvicorn;"
            f"os.environ['MAXGATE_ENGINES'] = {engine!r};"
            f"uvicorn.run('api_server:app', port={port}, log_level='error')"
        )
        process = await asyncio.create_subprocess_exec(
            "python3", "-c", code, cwd=SMALL_CARD.parents[1], env=_path_to_this_python()
        )

        async def answers() -> bool:
            try:
                async with httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", verify=TLS
                ) as client:
                    return (await client.post("/v1/chat/completions", json=BODY)).is_success
            except httpx.ConnectError:
                return False

        await until(answers, within=20)
        process.terminate()
        await process.wait()


def _path_to_this_python() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (["--port", "x"], {}, "Invalid value for '--port'"),
        (["--colour"], {}, "No such option: --colour"),
        (["--engine", "vllm"], {}, "Invalid value for '--engine': 'vllm' is not one of 'local',"),
        (["--config", "missing.yaml"], {}, "missing.yaml: No such file or directory"),
        (["--card", "missing.yaml"], {}, "missing.yaml: no such file or folder"),
        (["--engine-url", "localhost"], {}, "setting engines[0].url: 'localhost' is not a"),
        (["--host", "256.1.1.1"], {}, "cannot listen on 256.1.1.1:0"),
        ([], {"MAXGATE_PROT": "1"}, "unknown setting MAXGATE_PROT; did you mean MAXGATE_SERVER__"),
        ([], {"MAXGATE_PORT": "1"}, "both MAXGATE_PORT and MAXGATE_SERVER__PORT are set"),
        (["--workers", "2"], {"MAXGATE_TELEMETRY__METRICS_DIR": "/dev/null/m"},
         "telemetry.metrics_dir: /dev/null"),
        (["--engine", "local", "--engine-url", "http://elsewhere:1"], {},
         "an engine can only be started on this machine"),
    ],
)  # fmt: skip
async def test_usage_errors(flags: list[str], environment: dict[str, str], message: str) -> None:
    """A usage error is one line on stderr, with exit code 2."""
    environment = {"MAXGATE_SERVER__PORT": "0", **environment}
    code, stderr = await run_to_end("api_server.py", *flags, **environment)
    assert code == 2
    [line] = stderr.splitlines()
    assert line.startswith("maxgate: ")
    assert message in line


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("maxgate.yaml", "server: {port: [", "maxgate.yaml, line 1: not valid YAML"),
        (".env", "MAXGATE_SERVER__PORT", ".env, line 1: write NAME=value"),
    ],
)
async def test_invalid_files(
    name: str, text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files in the working directory are read without a flag; errors are one line."""
    for location in LOCATIONS:
        monkeypatch.delenv(location)
    (tmp_path / name).write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, ROOT / "api_server.py"), cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    assert (process.returncode, stderr.decode()) == (2, f"maxgate: {message}\n")


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_old_setting(workers: str) -> None:
    """An old setting works, with one warning from all processes together."""
    flags = ("--card", str(SMALL_CARD), "--workers", workers)
    async with (
        serving(FakeMax()) as engine,
        api_server(*flags, MAXGATE_ENGINE_URLS=engine) as server,
        httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
    ):

        async def is_healthy() -> bool:
            health = await client.get("/health")
            return [e["url"] for e in health.json()["engines"] if e["state"] == "healthy"] == [
                engine
            ]

        await until(is_healthy, within=10)
    logged = [json.loads(line) for line in server.lines]
    assert [line["message"] for line in logged if line["level"] == "warning"] == [
        "setting MAXGATE_ENGINE_URLS is now MAXGATE_ENGINES; the old name goes away in 0.3"
    ]


async def test_json_log() -> None:
    """In a JSON log, the message that the gateway is ready is one more line."""
    async with (
        serving(FakeMax()) as engine,
        api_server("--card", str(SMALL_CARD), "--engine-url", engine) as server,
    ):

        async def is_ready() -> bool:
            logged = [json.loads(line) for line in server.lines]
            return [x["url"] for x in logged if x["message"] == "gateway is ready"] == [server.url]

        await until(is_ready)


async def test_log_level() -> None:
    """`--log-level warning` omits the line of each request."""
    async with (
        serving(FakeMax()) as engine,
        api_server(
            *("--card", str(SMALL_CARD), "--engine-url", engine, "--log-level", "warning")
        ) as server,
        httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
    ):
        assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(server.process.wait(), 10)
    assert server.lines == []


async def test_usage_error_under_uvicorn() -> None:
    """Plain uvicorn ends with the same line."""
    code, stderr = await run_to_end("-m", "uvicorn", "api_server:app", MAXGATE_PROT="1")
    assert (code, stderr) == (
        2,
        "maxgate: unknown setting MAXGATE_PROT; did you mean MAXGATE_SERVER__PORT?\n",
    )


async def test_metrics_dir(tmp_path: Path) -> None:
    """Workers keep their counters in `telemetry.metrics_dir`."""
    flags = ("--card", str(SMALL_CARD), "--workers", "2")
    async with api_server(*flags, MAXGATE_TELEMETRY__METRICS_DIR=str(tmp_path)):

        async def both_count() -> bool:
            return len(files_in(tmp_path, "*.metrics")) == 2

        await until(both_count, within=10)


async def test_port_in_use() -> None:
    """A port in use is one line on stderr."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, stderr = await run_to_end("api_server.py", "--port", port)
    assert (code, stderr) == (
        2,
        f"maxgate: cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another address with --port or --host.\n",
    )


async def test_failed_engine(tmp_path: Path) -> None:
    """The gateway exits with 1 if its engine cannot be started."""
    card = tmp_path / "card.yaml"
    card.write_text(
        "name: x\nprompt: engine\ncontext_length: 10\nmax: {model_path: not-prepared}\n"
    )
    code, stderr = await run_to_end(
        *("api_server.py", "--port", str(free_port()), "--engine", "local"),
        *("--engine-url", f"http://localhost:{free_port()}", "--card", str(card)),
    )
    assert code == 1
    assert "maxgate: the model not-prepared is not prepared yet" in stderr


async def test_models_command() -> None:
    """`maxgate models` lists and shows cards."""
    for arguments, expected in (
        (["list"], "smollm2-135m-instruct"),
        (["show", "smollm2"], "prompt: chatml"),
    ):
        process = await asyncio.create_subprocess_exec(
            "python3", "-m", "maxgate", "models", *arguments,
            stdout=asyncio.subprocess.PIPE, env=_path_to_this_python(),
        )  # fmt: skip
        stdout, _ = await process.communicate()
        assert (process.returncode, expected in stdout.decode()) == (0, True)
    assert await run_to_end("-m", "maxgate", "models") == (2, "")
    code, stderr = await run_to_end("-m", "maxgate", "models", "show", "gpt-4")
    assert (code, "no file or model card is named gpt-4" in stderr) == (2, True)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
async def test_interrupted_preparation(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """An interrupted `maxgate models prepare` leaves nothing behind."""
    folder = tmp_path / "models"
    process = await asyncio.create_subprocess_exec(
        *("python3", "-m", "maxgate", "models", "prepare", "smollm2", "--out", str(folder / "m")),
        stderr=asyncio.subprocess.DEVNULL,
        env=_path_to_this_python(),
    )

    async def writes() -> bool:
        return bool(files_in(folder))

    await until(writes, within=20)
    process.send_signal(number)
    assert (await process.wait(), files_in(folder)) == (code, [])


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    return list(folder.glob(pattern))
