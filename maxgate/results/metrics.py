"""Definitions of all metrics, as printed beside their values.

Names and formulas follow vLLM, MAX and inference-perf, except that the time between two chunks is
called chunk gap rather than inter-token latency, because one chunk may hold several tokens. The ITL
of tables and charts is the time per output token.
"""

from typing import Final

from maxgate.results.report import Definition

PERCENTILES: Final = ("50", "90", "95", "99", "99.9")


def _seconds(title: str, text: str) -> Definition:
    return Definition(title=title, unit="s", better="lower", text=text)


DEFINITIONS: Final[dict[str, Definition]] = {
    "latency": _seconds(
        "Latency (end to end)",
        "from the start of sending to the last non-empty output",
    ),
    "response_latency": _seconds(
        "Latency from schedule",
        "from the scheduled start to the last non-empty output",
    ),
    "ttft": _seconds(
        "Time to first token",
        "from the start of sending to the first non-empty output: text, reasoning or tool call; a "
        "chunk with only a role does not count",
    ),
    "response_ttft": _seconds(
        "Time to first token from schedule",
        "from the scheduled start to the first non-empty output",
    ),
    "tpot": _seconds(
        "Time per output token",
        "(latency - time to first token) / (output tokens - 1); undefined below 2 tokens",
    ),
    "chunk_gap": _seconds(
        "Chunk gap",
        "between consecutive chunks, pooled over all requests; a chunk may hold several tokens, "
        "and chunks that arrive in one read have a gap of 0",
    ),
    "normalized_latency": _seconds("Normalized latency", "latency / output tokens"),
    "ttfb": _seconds(
        "Time to first byte", "from the start of sending to the first byte of the response"
    ),
    "late": _seconds("Send delay", "from the scheduled start to the actual start of sending"),
    "connect": _seconds("Time to connect", "only for requests that opened a connection"),
    "output_length": Definition(
        title="Output length", unit="tokens", better="higher", text="output tokens per request"
    ),
    "input_length": Definition(
        title="Input length",
        unit="tokens",
        better="higher",
        text="input tokens per request, from usage",
    ),
}
