"""Other load generators, each in its own environment under .bench/, and ours."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[2]
BENCH = ROOT / ".bench"
_MAX_SECONDS: Final = 90  # of one run, including the start of the tool
TOKENIZER = Path("~/.cache/maxgate/models/smollm2-135m-instruct").expanduser()


@dataclass(frozen=True)
class Reported:
    """Values reported by a tool; milliseconds, and per second."""

    ttft_p50: float | None
    tpot_mean: float | None
    gap_p50: float | None
    latency_p50: float | None
    latency_p99: float | None
    requests_per_second: float | None


@dataclass(frozen=True)
class Tool:
    """A load generator: its command line, and a reader of its report."""

    name: str
    program: Path
    flags: Callable[[str, int, int, int, Path], Sequence[str]]
    read: Callable[[Path], Reported]

    def version(self) -> str | None:
        """The installed version, or None."""
        if not self.program.exists():
            return None
        package = {"max benchmark": "max", "ours": "maxgate"}.get(self.name, self.name)
        python = self.program.parent / "python"
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        process = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        return process.stdout.strip() or "?"

    def run(
        self, url: str, concurrency: int, requests: int, tokens: int, command_prefix: Sequence[str]
    ) -> Reported:
        """Send load to the URL; `command_prefix` is a command that starts another one.

        Raises CalledProcessError and TimeoutExpired. All processes of the tool end with the call.
        """
        with tempfile.TemporaryDirectory() as folder:
            flags = self.flags(url, concurrency, requests, tokens, Path(folder))
            process = subprocess.Popen(
                [*command_prefix, str(self.program), *flags],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)} if self.name == "ours" else None,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout=_MAX_SECONDS)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if code:
                raise subprocess.CalledProcessError(code, self.name)
            return self.read(Path(folder))


def _guidellm(url: str, concurrency: int, requests: int, tokens: int, out: Path) -> list[str]:
    return [
        "run",
        *("--backend", f"kind=openai_http,target={url},model=scripted"),
        *("--profile", f"kind=concurrent,streams={concurrency}"),
        *("--constraint", f"kind=max_requests,count={requests}"),
        *("--data", f"kind=synthetic_text,prompt_tokens=10,output_tokens={tokens}"),
        *("--tokenizer", f"kind=huggingface_auto,model={TOKENIZER}"),
        *("--output", f"kind=json,path={out}/out.json", "--disable-console"),
    ]


def _read_guidellm(out: Path) -> Reported:
    found = json.loads((out / "out.json").read_text())["benchmarks"][0]["metrics"]

    def read(metric: str) -> Any:
        return found[metric]["successful"]

    return Reported(
        ttft_p50=read("time_to_first_token_ms")["median"],
        tpot_mean=read("inter_token_latency_ms")["mean"],
        gap_p50=None,
        latency_p50=read("request_latency")["median"] * 1000,
        latency_p99=read("request_latency")["percentiles"]["p99"] * 1000,
        requests_per_second=read("requests_per_second")["mean"],
    )


def _aiperf(url: str, concurrency: int, requests: int, tokens: int, out: Path) -> list[str]:
    return [
        "profile",
        *("--model", "scripted", "--url", url, "--endpoint-type", "chat", "--streaming"),
        *("--concurrency", str(concurrency), "--request-count", str(requests)),
        *("--tokenizer", str(TOKENIZER), "--use-server-token-count", "--ui", "none"),
        *("--isl", "10", "--osl", str(tokens), "--artifact-dir", f"{out}/out"),
    ]


def _read_aiperf(out: Path) -> Reported:
    found = json.loads((out / "out" / "profile_export_aiperf.json").read_text())

    def read(metric: str, statistic: str) -> float | None:
        value: float | None = found.get(metric, {}).get(statistic)
        return value

    return Reported(
        ttft_p50=read("time_to_first_token", "p50"),
        tpot_mean=read("inter_token_latency", "avg"),
        gap_p50=read("inter_chunk_latency", "p50"),
        latency_p50=read("request_latency", "p50"),
        latency_p99=read("request_latency", "p99"),
        requests_per_second=read("request_throughput", "avg"),
    )


def _max(url: str, concurrency: int, requests: int, tokens: int, out: Path) -> list[str]:
    return [
        "benchmark",
        *("--model", str(TOKENIZER), "--tokenizer", str(TOKENIZER)),
        *("--tokenizer-local-files-only", "--backend", "modular-chat", "--base-url", url),
        *("--endpoint", "/v1/chat/completions", "--dataset-name", "random"),
        *("--random-input-len", "10", "--random-output-len", str(tokens)),
        *("--num-prompts", str(requests), "--max-concurrency", str(concurrency)),
        *("--no-collect-gpu-stats", "--no-collect-cpu-stats", "--no-collect-server-stats"),
        *("--disable-tqdm", "--result-filename", f"{out}/out.json"),
        *("--server-ready-timeout-s", "5"),
    ]


def _read_max(out: Path) -> Reported:
    found = json.loads((out / "out.json").read_text())
    return Reported(
        ttft_p50=found.get("median_ttft_ms"),
        tpot_mean=found.get("mean_tpot_ms"),
        gap_p50=found.get("median_itl_ms"),
        latency_p50=found.get("median_latency_ms"),
        latency_p99=found.get("p99_latency_ms"),
        requests_per_second=found.get("request_throughput"),
    )


def _ours(url: str, concurrency: int, requests: int, tokens: int, out: Path) -> list[str]:
    return [
        str(ROOT / "load_test.py"),
        *("--url", url, "--scenario", "short", "-c", str(concurrency), "-n", str(requests)),
        *("--max-tokens", str(tokens), "--warmup", "0", "--no-calibrate", "--target", "none"),
        *("-q", "-o", f"{out}/out.json", "--no-records"),
    ]


def _read_ours(out: Path) -> Reported:
    (level,) = json.loads((out / "out.json").read_text())["levels"]
    metrics = level["metrics"]

    def read(metric: str, key: str) -> float | None:
        value = metrics[metric]["percentiles"].get(key) if metric in metrics else None
        return None if value is None else value * 1000

    mean = metrics["tpot"]["mean"]
    return Reported(
        ttft_p50=read("ttft", "50"),
        tpot_mean=None if mean is None else mean * 1000,
        gap_p50=read("chunk_gap", "50"),
        latency_p50=read("latency", "50"),
        latency_p99=read("latency", "99"),
        requests_per_second=level["throughput"]["requests"],
    )


def tools() -> list[Tool]:
    """All tools, ours last."""
    return [
        Tool("guidellm", BENCH / "guidellm/bin/guidellm", _guidellm, _read_guidellm),
        Tool("aiperf", BENCH / "aiperf/bin/aiperf", _aiperf, _read_aiperf),
        Tool("max benchmark", BENCH / "max/bin/max", _max, _read_max),
        Tool("ours", Path(sys.executable), _ours, _read_ours),
    ]
