"""Check that chunk boundaries do not change the result of the tool call parser, and its speed.

    python -m benchmarks.tool_parser [--splits 10000] [--seed 1]

Responses join one to four of the notations in the tests, some truncated, and are split into chunks
at random places. The result must equal that of the unsplit response. Chunks per second are measured
in CPU time on one core, with chunks about as long as tokens, and include creating one parser per
response.
"""

import argparse
import platform
import random
import re
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from maxgate.tool_calling.parser import ToolCallParser
from tests.unit.tool_calling.call_variants import (
    SEARCH,
    VARIANTS,
    WEATHER,
    Parsed,
    fold_events,
)

TAG = "<|python_tag|>"
TOKEN = re.compile(r" ?\w+|[^\w\s]+|\s+")
PROSE = (
    "The capital of France is Paris, and it is large.\n- Of its rivers, one is the Seine.\n" * 20
)
LONG = '{"name": "search", "parameters": {"query": "' + "how large is the city of Paris? " * 40

Piece = tuple[str, bool]


def split_at_tag(text: str) -> list[Piece]:
    """Split the text into pieces, each with whether the special token comes before it."""
    first, *rest = text.split(TAG)
    return [(first, False), *[(piece, True) for piece in rest]]


def split(pieces: Sequence[Piece], generator: random.Random) -> list[Piece]:
    """Split into smaller pieces, some of them empty."""
    smaller = []
    for text, tagged in pieces:
        number = generator.randrange(max(2, len(text)))
        places = sorted([generator.randint(0, len(text)) for _ in range(number)])
        parts = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
        smaller += [(part, tagged and place == 0) for place, part in enumerate(parts)]
    return smaller


def parse(pieces: Sequence[Piece], *, complete: bool, parallel: bool) -> Parsed:
    """Parse the pieces into the text and the name and arguments of each call."""
    parser = ToolCallParser([WEATHER, SEARCH], parallel=parallel)
    events = [event for text, tagged in pieces for event in parser.feed(text, tagged=tagged)]
    return fold_events(events + parser.finish(complete=complete))


def count_differences(splits: int, generator: random.Random) -> tuple[int, int, int]:
    """Count the splits with a different result, and all chunks and calls."""
    texts = [text for text, _, _ in VARIANTS.values()]
    wrong = chunks = calls = 0
    for _ in range(splits):
        response = generator.choice(["", "\n", " "]).join(
            generator.choices(texts, k=generator.randint(1, 4))
        )
        if generator.random() < 0.5:
            response = response[: generator.randint(0, len(response))]
        # The name of the special token as plain text is not the token.
        whole = split_at_tag(response) if generator.random() < 0.5 else [(response, False)]
        how = {"complete": generator.random() < 0.5, "parallel": generator.random() < 0.5}
        parts = split(whole, generator)
        expected = parse(whole, **how)
        wrong += parse(parts, **how) != expected
        chunks += len(parts)
        calls += len(expected[1])
    return wrong, chunks, calls


def measure_speed(texts: Sequence[str]) -> float:
    """Measure the best of five rounds of at least 20,000 chunks each."""
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


def describe_machine() -> str:
    """Name the processor and the interpreter."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = found[1] if found else platform.machine()
    return f"{name}, Python {platform.python_version()}"


def main() -> None:
    """Measure and print; exit with 1 if a split made a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    wrong, chunks, calls = count_differences(arguments.splits, generator)
    print(describe_machine())
    print(f"{arguments.splits:,} random splits of {len(VARIANTS)} kinds of responses into "
          f"{chunks:,} chunks, {calls:,} calls: {wrong} differences")  # fmt: skip
    called = [text for text, _, expected in VARIANTS.values() if expected]
    for name, texts in {"short calls": called, "a long call": [LONG], "text": [PROSE]}.items():
        print(f"{name:12} {measure_speed(texts):>11,.0f} chunks/s")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
