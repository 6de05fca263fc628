"""Compare two real engines by a canary, once with equal and once with other weights.

    python -m benchmarks.canary [--requests 100] [--clients 4] [--share 50] [--noise 0.05]

Starts MAX with the small model (3 GB) behind a gateway, and beside it a new engine: first with
other settings (half the batch size and context), which has to pass, then with noise in the weights,
which has to fail. `maxgate engines canary --mirror` compares them while clients send greedy
requests. Both share the processor, so that only a large slowdown counts. Exits with 1 if a verdict
or an exit code is wrong, or if the request of a client failed.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from benchmarks.stack import CARD, MODEL, ROOT, find_free_port, run_gateway, wait_for
from maxgate.cli.canary_report import describe_result
from maxgate.model_cards.loader import ModelFiles
from maxgate.settings import load_settings

START_TIMEOUT = 1800  # MAX compiles the engine with other settings, for minutes
MAX_SLOWDOWN = 200
SUBJECTS = ("the sea", "a clock", "winter", "a train", "bread", "the moon", "a letter", "rivers")
WEIGHTS = "model.safetensors"


def write_card(folder: Path, name: str, context_length: int = 8192, **flags: Any) -> Path:
    """Write the card of the small model with another context length and other flags of MAX."""
    card = yaml.safe_load(CARD.read_text())
    card["max"] |= flags
    card["context_length"] = context_length
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(card))
    return file


def copy_with_noise(source: Path, target: Path, noise: float) -> None:
    """Copy a prepared model, and multiply each weight by 1 plus normal noise.

    The format is that of safetensors: the length of the header, the header, and the tensors.
    """
    shutil.copytree(source, target)
    with (target / WEIGHTS).open("rb") as file:
        [length] = struct.unpack("<Q", file.read(8))
        kinds = {one["dtype"] for one in json.loads(file.read(length)).values() if "dtype" in one}
    if kinds != {"F32"}:
        raise SystemExit(f"{source / WEIGHTS} has tensors of other types than F32: {kinds}")
    weights = np.memmap(target / WEIGHTS, dtype="<f4", mode="r+", offset=8 + length)
    random = np.random.default_rng(1)
    for part in np.array_split(weights, 64):
        np.multiply(part, 1 + noise * random.standard_normal(part.size, dtype=np.float32), part)
    weights.flush()


@contextmanager
def run_engine(card: Path) -> Iterator[str]:
    """Run MAX with this card, and yield its URL once it responds."""
    port = find_free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "maxgate", "engine", "start", MODEL, "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "MAXGATE_CARDS": str(card)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/v1/models", timeout=START_TIMEOUT, process=process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


async def send_load(url: str, clients: int, ended: asyncio.Event) -> Counter[str]:
    """Send greedy requests, streamed and whole, until the end; returns their statuses."""
    outcomes = Counter[str]()

    async def run(client: httpx.AsyncClient, number: int) -> None:
        while not ended.is_set():
            prompt = f"Write {number % 97 + 3} words about {SUBJECTS[number % len(SUBJECTS)]}."
            body = {
                "model": MODEL,
                "messages": [{"role": "user", "content": prompt}],
                "temperature": 0,
                "max_tokens": 16,
                "stream": number % 2 == 0,
            }
            response = await client.post("/v1/chat/completions", json=body)
            outcomes[str(response.status_code)] += 1
            number += clients + 1

    async with httpx.AsyncClient(base_url=url, timeout=START_TIMEOUT) as client:
        await asyncio.gather(*(run(client, number) for number in range(clients)))
    return outcomes


async def compare(gateway: str, new: str, options: argparse.Namespace) -> tuple[Any, int, int]:
    """Run the command under load; returns its result, its exit code and the failed requests."""
    ended = asyncio.Event()
    load = asyncio.create_task(send_load(gateway, options.clients, ended))
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maxgate", "engines", "canary", "--url", new, "--mirror"),
        *("--share", str(options.share), "--requests", str(options.requests), "--json"),
        *("--max-slowdown", str(MAX_SLOWDOWN), "--gateway", gateway),
        stdout=subprocess.PIPE,
    )
    output, _ = await command.communicate()
    ended.set()
    outcomes = await load
    return (
        json.loads(output or b"null"),
        command.returncode or 0,
        outcomes.total() - outcomes["200"],
    )


def run_case(gateway: str, name: str, card: Path, options: argparse.Namespace) -> tuple[str, int]:
    """Compare the engine of a card, and print the result; returns the verdict and the code."""
    with run_engine(card) as url:
        result, code, failed = asyncio.run(compare(gateway, url, options))
    if result is None:
        return "none", code
    print(f"{name}: exit code {code}, {failed} requests of clients failed")
    print(describe_result(result), flush=True)
    return ("clients failed" if failed else result["verdict"]), code


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--share", type=float, default=50)
    parser.add_argument("--noise", type=float, default=0.05)
    options = parser.parse_args()
    prepared = ModelFiles.locate(load_settings().cache_dir).find(MODEL)
    if prepared is None:
        raise SystemExit(f"run: maxgate models prepare {MODEL}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_with_noise(prepared, folder / "weights", options.noise)
        settings = write_card(folder, "settings", 4096, max_batch_size=4)
        weights = write_card(folder, "weights", model_path=str(folder / "weights"))
        with run_engine(CARD) as old:
            flags = ("--engine-url", old, "--card", str(CARD), "--workers", "2")
            with run_gateway(*flags) as (gateway, process):
                wait_for(f"{gateway}/health/ready", timeout=60, process=process)
                results = [
                    run_case(gateway, "other settings", settings, options),
                    run_case(gateway, "other weights", weights, options),
                ]
    if results != [("pass", 0), ("fail", 1)]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
