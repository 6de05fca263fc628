"""`python api_server.py`: starting, stopping, several workers, and what is said when it cannot."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import httpx
import psutil
import pytest

from tests.fakes.gateway import SMALL_CARD
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.processes import api_server, free_port, run_to_end
from tests.fakes.server import serving
from tests.fakes.waiting import until

BODY = {"messages": [{"role": "user", "content": "Hello"}]}


async def test_it_answers_and_prints_a_curl_line_that_works() -> None:
    async with (
        serving(FakeMax()) as engine,
        api_server("--engine-url", engine, "--card", str(SMALL_CARD)) as server,
    ):

        async def announced() -> bool:
            return any(line.startswith("curl ") for line in server.lines)

        await until(announced)
        [line] = [line for line in server.lines if line.startswith("curl ")]
        shell = await asyncio.create_subprocess_shell(
            line, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        answer, _ = await shell.communicate()
    assert b"The capital of France is Paris." in answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_signal_ends_it_and_all_of_its_workers(
    number: signal.Signals, workers: str
) -> None:
    async with serving(FakeMax()) as engine:
        flags = ("--engine-url", engine, "--card", str(SMALL_CARD), "--workers", workers)
        async with api_server(*flags) as server:
            children = psutil.Process(server.process.pid).children(recursive=True)
            server.process.send_signal(number)
            await asyncio.wait_for(server.process.wait(), 10)
    assert not psutil.wait_procs(children, timeout=5)[1]


async def test_workers_end_when_the_process_that_keeps_them_is_killed() -> None:
    async with serving(FakeMax()) as engine:
        flags = ("--engine-url", engine, "--card", str(SMALL_CARD), "--workers", "2")
        async with api_server(*flags) as server:
            children = psutil.Process(server.process.pid).children(recursive=True)
            server.process.kill()
            await server.process.wait()
            gone = await asyncio.to_thread(psutil.wait_procs, children, 10)
    assert not gone[1]


async def test_a_running_stream_is_finished_before_the_end() -> None:
    engine = FakeMax(scripts=[Script(silent_after=3)])
    async with (
        serving(engine) as engine_url,
        api_server("--engine-url", engine_url, "--card", str(SMALL_CARD)) as server,
        httpx.AsyncClient(base_url=server.url) as client,
        client.stream("POST", "/v1/chat/completions", json={**BODY, "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.returncode is None


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_every_request_before_the_end_is_in_the_log(workers: str) -> None:
    async with serving(FakeMax()) as engine:
        flags = ("--engine-url", engine, "--card", str(SMALL_CARD), "--workers", workers)
        async with (
            api_server(*flags, "--log-format", "json") as server,
            httpx.AsyncClient(base_url=server.url) as client,
        ):
            answers = [client.post("/v1/chat/completions", json=BODY) for _ in range(20)]
            given = {answer.headers["x-request-id"] for answer in await asyncio.gather(*answers)}
            server.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(server.process.wait(), 10)
    logged = [json.loads(line) for line in server.lines if line.startswith("{")]
    assert {line["request_id"] for line in logged if "request_id" in line} == given


async def test_metrics_count_all_workers() -> None:
    async with serving(FakeMax()) as engine:
        flags = ("--engine-url", engine, "--card", str(SMALL_CARD), "--workers", "2")
        async with api_server(*flags) as server:

            async def ask() -> None:
                async with httpx.AsyncClient(base_url=server.url) as client:
                    response = await client.post("/v1/chat/completions", json=BODY)
                    assert response.status_code == 200

            async def both_are_up() -> bool:
                async with httpx.AsyncClient(base_url=server.url) as client:
                    return bool((await client.get("/metrics")).json()["workers"] == 2)

            await until(both_are_up, within=10)
            await asyncio.gather(*(ask() for _ in range(30)))
            async with httpx.AsyncClient(base_url=server.url) as client:
                metrics = (await client.get("/metrics")).json()
    assert metrics["requests"]["by_outcome"] == {"ok": 30}


async def test_uvicorn_can_be_used_instead() -> None:
    port = free_port()
    async with serving(FakeMax()) as engine:
        code = (
            "import os, uvicorn;"
            f"os.environ['MAXGATE_ENGINE_URLS'] = {engine!r};"
            f"uvicorn.run('api_server:app', port={port}, log_level='error')"
        )
        process = await asyncio.create_subprocess_exec(
            "python3", "-c", code, cwd=SMALL_CARD.parents[1], env=_path_to_this_python()
        )

        async def answers() -> bool:
            try:
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                    return (await client.post("/v1/chat/completions", json=BODY)).is_success
            except httpx.ConnectError:
                return False

        await until(answers, within=20)
        process.terminate()
        await process.wait()


def _path_to_this_python() -> dict[str, str]:
    import os
    import sys

    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        (["--port", "x"], {}, "Invalid value for '--port'"),
        (["--colour"], {}, "No such option: --colour"),
        (["--engine", "vllm"], {}, "Invalid value for '--engine': 'vllm' is not one of 'local',"),
        (["--config", "missing.yaml"], {}, "missing.yaml: No such file or directory"),
        (["--card", "missing.yaml"], {}, "missing.yaml: no such file or folder"),
        (["--engine-url", "localhost"], {}, "setting engine_urls: 'localhost' is not a URL"),
        (["--host", "256.1.1.1"], {}, "cannot listen on 256.1.1.1:0"),
        ([], {"MAXGATE_PROT": "1"}, "unknown setting MAXGATE_PROT; did you mean MAXGATE_PORT?"),
        (["--workers", "2"], {"MAXGATE_METRICS_DIR": "/dev/null/m"}, "metrics_dir: /dev/null"),
        (["--engine", "local", "--engine-url", "http://elsewhere:1"], {},
         "an engine can only be started on this machine"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_said_in_one_line(
    flags: list[str], environment: dict[str, str], said: str
) -> None:
    code, stderr = await run_to_end("api_server.py", *flags, **{"MAXGATE_PORT": "0", **environment})
    assert code == 2
    [line] = stderr.splitlines()
    assert line.startswith("maxgate: ")
    assert said in line


async def test_uvicorn_ends_in_one_line_too() -> None:
    code, stderr = await run_to_end("-m", "uvicorn", "api_server:app", MAXGATE_PROT="1")
    assert (code, stderr) == (
        2,
        "maxgate: unknown setting MAXGATE_PROT; did you mean MAXGATE_PORT?\n",
    )


async def test_workers_count_in_the_folder_that_is_set(tmp_path: Path) -> None:
    flags = ("--card", str(SMALL_CARD), "--workers", "2")
    async with api_server(*flags, MAXGATE_METRICS_DIR=str(tmp_path)):

        async def both_count() -> bool:
            return len(files_in(tmp_path)) == 2

        await until(both_count, within=10)


async def test_a_port_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, stderr = await run_to_end("api_server.py", "--port", port)
    assert (code, stderr) == (
        2,
        f"maxgate: cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another one with --port or --host.\n",
    )


async def test_an_engine_that_cannot_be_started_ends_the_gateway(tmp_path: Path) -> None:
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


async def test_models_are_listed_and_shown() -> None:
    for arguments, said in (
        (["list"], "smollm2-135m-instruct"),
        (["show", "smollm2"], "prompt: chatml"),
    ):
        process = await asyncio.create_subprocess_exec(
            "python3", "-m", "maxgate", "models", *arguments,
            stdout=asyncio.subprocess.PIPE, env=_path_to_this_python(),
        )  # fmt: skip
        stdout, _ = await process.communicate()
        assert (process.returncode, said in stdout.decode()) == (0, True)
    assert await run_to_end("-m", "maxgate", "models") == (2, "")
    code, stderr = await run_to_end("-m", "maxgate", "models", "show", "gpt-4")
    assert (code, "no file and no model card is called gpt-4" in stderr) == (2, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_preparation_that_is_stopped_leaves_nothing(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
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


def files_in(folder: Path) -> list[Path]:
    return list(folder.glob("*"))
