"""What the gateway adds to a request, with the real MAX behind it and one client.

    python benchmarks/added_latency.py [--requests 200] [--max-tokens 4]

The same request goes to the gateway and to MAX directly in turn, so that whatever else the machine
does meets both. Both connections are kept open. What is reported is the gateway's time minus MAX's:
the difference of the two distributions' percentiles, and the percentiles of the differences of
neighbours, which hold MAX's own variation twice.
"""

import argparse
import gc
import http.client
import json
import statistics
import time
from urllib.parse import urlsplit

from stack import MODEL, running_stack

from maxgate.generation.request import Message
from maxgate.model_cards.loader import ModelFiles, load_cards
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.tokenizer import load_tokenizer
from maxgate.settings import load_settings

QUESTION = "What is the capital of France?"


class Client:
    """One connection that sends one request again and again."""

    def __init__(self, url: str, path: str, body: dict[str, object]) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._path, self._body = path, json.dumps(body)

    def seconds(self) -> float:
        """How long the whole answer takes."""
        began = time.perf_counter()
        self._connection.request(
            "POST", self._path, self._body, {"content-type": "application/json"}
        )
        response = self._connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        return time.perf_counter() - began


def prompt_ids() -> list[int]:
    """The ids that the gateway makes of the question."""
    settings = load_settings()
    card = next(c for c in load_cards([]) if c.name == MODEL)
    file = ModelFiles.locate(settings.cache_dir).find_tokenizer(card.tokenizer)
    assert file is not None
    chat_format = ChatMLFormat(load_tokenizer(file), card.default_system_prompt)
    return chat_format.encode([Message("user", (QUESTION,))]).to_list()


def percentile(values: list[float], percent: int) -> float:
    """By linear interpolation."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200, help="each way")
    parser.add_argument("--max-tokens", type=int, default=4)
    arguments = parser.parse_args()
    sampling = {"temperature": 0, "max_tokens": arguments.max_tokens, "model": MODEL}
    with running_stack() as stack:
        direct = Client(
            stack.engine, "/v1/completions", {**sampling, "prompt": prompt_ids(), "top_p": 0.9}
        )
        gateway = Client(
            stack.gateway,
            "/v1/chat/completions",
            {**sampling, "messages": [{"role": "user", "content": QUESTION}]},
        )
        for _ in range(20):
            direct.seconds(), gateway.seconds()
        gc.disable()
        pairs = []
        for number in range(arguments.requests):
            # Whoever goes first may find the caches warmer or colder; they take turns.
            first, second = (direct, gateway) if number % 2 else (gateway, direct)
            one, two = first.seconds() * 1000, second.seconds() * 1000
            pairs.append((one, two) if first is gateway else (two, one))
    report(pairs)


def report(pairs: list[tuple[float, float]]) -> None:
    """A table in milliseconds."""
    through, direct = [a for a, _ in pairs], [b for _, b in pairs]
    differences = [a - b for a, b in pairs]
    print(f"{len(pairs)} requests each way, milliseconds")
    print(f"{'':28}{'P50':>8}{'P90':>8}{'P99':>8}")
    rows = {"through the gateway": through, "directly": direct}
    for name, values in rows.items():
        print(f"{name:28}" + "".join(f"{percentile(values, p):8.2f}" for p in (50, 90, 99)))
    added = [percentile(through, p) - percentile(direct, p) for p in (50, 90, 99)]
    print(f"{'added (of percentiles)':28}" + "".join(f"{value:8.2f}" for value in added))
    paired = [percentile(differences, p) for p in (50, 90, 99)]
    print(f"{'added (of neighbours)':28}" + "".join(f"{value:8.2f}" for value in paired))


if __name__ == "__main__":
    main()
