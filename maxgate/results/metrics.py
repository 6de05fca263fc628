"""What is measured, and exactly how: the words that are printed with each number.

Names and formulae are those that most of the field uses (vLLM, MAX, inference-perf); the gap
between pieces is called chunk gap, because one piece may hold several tokens.
"""

from typing import Final

from maxgate.results.report import Definition

PERCENTILES: Final = ("50", "90", "95", "99", "99.9")


def _seconds(title: str, text: str) -> Definition:
    return Definition(title=title, unit="s", better="lower", text=text)


DEFINITIONS: Final[dict[str, Definition]] = {
    "latency": _seconds(
        "Latency (end to end)",
        "from when the client starts to send until the last non-empty output has arrived",
    ),
    "response_latency": _seconds(
        "Latency from schedule",
        "from when the request should have left until the last non-empty output has arrived",
    ),
    "ttft": _seconds(
        "Time to first token",
        "from when the client starts to send until the first non-empty output: text, reasoning or "
        "tool call; a chunk with only a role does not count",
    ),
    "response_ttft": _seconds(
        "Time to first token from schedule",
        "from when the request should have left until the first non-empty output",
    ),
    "tpot": _seconds(
        "Time per output token",
        "(latency - time to first token) / (output tokens - 1); undefined below two tokens",
    ),
    "chunk_gap": _seconds(
        "Chunk gap",
        "between neighbouring pieces of output, pooled over all requests; a piece may hold several "
        "tokens, and pieces of one read have a gap of 0",
    ),
    "normalized_latency": _seconds("Normalised latency", "latency / output tokens"),
    "ttfb": _seconds(
        "Time to first byte", "from when the client starts to send until any byte of the answer"
    ),
    "late": _seconds(
        "Lateness of the client", "from when the request should have left until it left"
    ),
    "connect": _seconds("Time to connect", "of requests that had to open a connection"),
    "output_length": Definition(
        title="Output length", unit="tokens", better="higher", text="output tokens of a request"
    ),
    "input_length": Definition(
        title="Input length", unit="tokens", better="higher", text="input tokens, by the usage"
    ),
}
