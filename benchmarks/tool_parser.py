"""Check that the tool call parser is independent of chunking, and measure its throughput.

    python -m benchmarks.tool_parser [--splits 10000] [--seed 1]

Each response is one to four of the tests' call formats in a row, sometimes truncated, split into
chunks at random positions. Parsing the chunks has to give the same result as parsing the whole.
Throughput is chunks per second of CPU time with chunks about as long as tokens; every response has
a new parser, whose construction is included.
"""

import argparse
import platform
import random
import re
import sys
import time
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.gateway.report import describe_machine
from maxgate.tool_calling.parser import ToolCallParser
from tests.unit.prompts.tool_answers import SEARCH, VARIANTS, WEATHER, Answer, folded

TAG = "<|python_tag|>"
TOKEN = re.compile(r" ?\w+|[^\w\s]+|\s+")
TEXT = "The capital of France is Paris, and it is large.\n- Of its rivers, one is the Seine.\n" * 20
LONG_CALL = '{"name": "search", "parameters": {"query": "' + "how large is the city of Paris? " * 40

Piece = tuple[str, bool]


def split_at_tags(text: str) -> list[Piece]:
    """Split the text at special tokens; each piece says whether a token precedes it."""
    first, *rest = text.split(TAG)
    return [(first, False), *[(piece, True) for piece in rest]]


def split_randomly(pieces: Sequence[Piece], chance: random.Random) -> list[Piece]:
    """Split pieces into smaller ones, some of them empty."""
    smaller = []
    for text, tagged in pieces:
        number = chance.randrange(max(2, len(text)))
        cuts = sorted([chance.randint(0, len(text)) for _ in range(number)])
        parts = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
        smaller += [(part, tagged and index == 0) for index, part in enumerate(parts)]
    return smaller


def parse(pieces: Sequence[Piece], *, complete: bool, parallel: bool) -> Answer:
    """Parse pieces; returns the text and the name and arguments of each call."""
    parser = ToolCallParser([WEATHER, SEARCH], parallel=parallel)
    events = [event for text, tagged in pieces for event in parser.feed(text, tagged=tagged)]
    return folded(events + parser.finish(complete=complete))


def count_differences(splits: int, chance: random.Random) -> tuple[int, int, int]:
    """Parse random splits; returns the counts of different results, chunks and calls."""
    texts = [text for text, _, _ in VARIANTS.values()]
    wrong = chunks = calls = 0
    for _ in range(splits):
        response = chance.choice(["", "\n", " "]).join(
            chance.choices(texts, k=chance.randint(1, 4))
        )
        if chance.random() < 0.5:
            response = response[: chance.randint(0, len(response))]
        # The tag can also be plain text rather than the special token.
        whole = split_at_tags(response) if chance.random() < 0.5 else [(response, False)]
        options = {"complete": chance.random() < 0.5, "parallel": chance.random() < 0.5}
        parts = split_randomly(whole, chance)
        expected = parse(whole, **options)
        wrong += parse(parts, **options) != expected
        chunks += len(parts)
        calls += len(expected[1])
    return wrong, chunks, calls


def measure_throughput(texts: Sequence[str]) -> float:
    """Return chunks per CPU second: the best of five rounds of at least 20,000 chunks."""
    streams = [TOKEN.findall(text) for text in texts]
    chunks = sum(map(len, streams))
    rounds = -(-20_000 // chunks)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(rounds):
            for stream in streams:
                parser = ToolCallParser([WEATHER, SEARCH])
                for chunk in stream:
                    parser.feed(chunk)
                parser.finish(complete=True)
        seconds.append(time.process_time() - start)
    return rounds * chunks / min(seconds)


def main() -> None:
    """Measure and print; exits with 1 if a result depends on the chunks."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tool_parser", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--splits", type=int, default=10_000, help="random splits (default: 10000)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: 1)")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    wrong, chunks, calls = count_differences(arguments.splits, chance)
    print(f"{describe_machine()}, Python {platform.python_version()}")
    print(f"{arguments.splits:,} random splits of {len(VARIANTS)} kinds of responses into "
          f"{chunks:,} chunks, {calls:,} calls: {wrong} differences")  # fmt: skip
    called = [text for text, _, expected in VARIANTS.values() if expected]
    for name, texts in {"short calls": called, "long call": [LONG_CALL], "text": [TEXT]}.items():
        print(f"{name:12} {measure_throughput(texts):>11,.0f} chunks/s")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
