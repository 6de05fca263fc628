"""Measure the latency added by the gateway in front of the real MAX, with one client.

    python benchmarks/added_latency.py [--requests 200] [--max-tokens 4]

The same request is sent through the gateway and directly to MAX in alternation, over persistent
connections, so that disturbances by the machine affect both. Prints the difference of the two
distributions' percentiles, and the percentiles of the differences of adjacent requests, which
include MAX's own variation twice.
"""

import argparse
import gc
import http.client
import json
import statistics
import time
from urllib.parse import urlsplit

from stack import MODEL, run_stack

from maxgate.generation.request import Message
from maxgate.model_cards.loader import ModelFiles, load_cards
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.tokenizer import load_tokenizer
from maxgate.settings import load_settings

QUESTION = "What is the capital of France?"


class Client:
    """Sends the same request repeatedly over one connection."""

    def __init__(self, url: str, path: str, body: dict[str, object]) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._path, self._body = path, json.dumps(body)

    def send(self) -> float:
        """Send the request; returns the seconds until the response is complete."""
        began = time.perf_counter()
        self._connection.request(
            "POST", self._path, self._body, {"content-type": "application/json"}
        )
        response = self._connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        return time.perf_counter() - began


def encode_question() -> list[int]:
    """Return the token ids that the gateway sends to MAX for the question."""
    settings = load_settings()
    card = next(c for c in load_cards([]) if c.name == MODEL)
    file = ModelFiles.locate(settings.cache_dir).find_tokenizer(card.tokenizer)
    assert file is not None
    chat_format = ChatMLFormat(load_tokenizer(file), card.default_system_prompt)
    return chat_format.encode([Message("user", (QUESTION,))]).to_list()


def percentile(values: list[float], percent: int) -> float:
    """Return a percentile by linear interpolation."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--requests", type=int, default=200, help="requests per path (default: 200)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=4, help="tokens per response (default: 4)"
    )
    arguments = parser.parse_args()
    sampling = {"temperature": 0, "max_tokens": arguments.max_tokens, "model": MODEL}
    with run_stack() as stack:
        direct = Client(
            stack.engine_url,
            "/v1/completions",
            {**sampling, "prompt": encode_question(), "top_p": 0.9},
        )
        gateway = Client(
            stack.gateway_url,
            "/v1/chat/completions",
            {**sampling, "messages": [{"role": "user", "content": QUESTION}]},
        )
        for _ in range(20):
            direct.send(), gateway.send()
        gc.disable()
        pairs = []
        for number in range(arguments.requests):
            # The first request of a pair may warm caches for the second, so the order alternates.
            first, second = (direct, gateway) if number % 2 else (gateway, direct)
            one, two = first.send() * 1000, second.send() * 1000
            pairs.append((one, two) if first is gateway else (two, one))
    print_table(pairs)


def print_table(pairs: list[tuple[float, float]]) -> None:
    """Print percentiles of both paths and of the difference, in milliseconds."""
    through, direct = [a for a, _ in pairs], [b for _, b in pairs]
    differences = [a - b for a, b in pairs]
    print(f"{len(pairs)} requests per path, milliseconds")
    print(f"{'':28}{'P50':>8}{'P90':>8}{'P99':>8}")
    rows = {"through the gateway": through, "directly": direct}
    for name, values in rows.items():
        print(f"{name:28}" + "".join(f"{percentile(values, p):8.2f}" for p in (50, 90, 99)))
    added = [percentile(through, p) - percentile(direct, p) for p in (50, 90, 99)]
    print(f"{'added (percentiles)':28}" + "".join(f"{value:8.2f}" for value in added))
    paired = [percentile(differences, p) for p in (50, 90, 99)]
    print(f"{'added (adjacent requests)':28}" + "".join(f"{value:8.2f}" for value in paired))


if __name__ == "__main__":
    main()
