"""Whether the parser of tool calls says the same however an answer arrives, and what it costs.

    python -m benchmarks.tool_parser [--splits 10000] [--seed 1]

Answers are made of the ways of writing a call that the tests know, one to four of them in a row and
some cut at the end, and are split into chunks anywhere. What is read must be what is read from the
whole. Chunks per second are counted in processor time, on one core, with chunks about as long as
tokens; each answer has a parser of its own, whose making counts too.
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
from tests.unit.prompts.tool_answers import SEARCH, VARIANTS, WEATHER, Answer, folded

TAG = "<|python_tag|>"
TOKEN = re.compile(r" ?\w+|[^\w\s]+|\s+")
PROSE = (
    "The capital of France is Paris, and it is large.\n- Of its rivers, one is the Seine.\n" * 20
)
LONG = '{"name": "search", "parameters": {"query": "' + "how large is the city of Paris? " * 40

Piece = tuple[str, bool]


def pieces_of(text: str) -> list[Piece]:
    """The text as it is fed: each piece, and whether the special token came before it."""
    first, *rest = text.split(TAG)
    return [(first, False), *[(piece, True) for piece in rest]]


def split(pieces: Sequence[Piece], chance: random.Random) -> list[Piece]:
    """The same in smaller pieces, some of them empty."""
    smaller = []
    for text, tagged in pieces:
        number = chance.randrange(max(2, len(text)))
        places = sorted([chance.randint(0, len(text)) for _ in range(number)])
        parts = [text[start:end] for start, end in pairwise([0, *places, len(text)])]
        smaller += [(part, tagged and place == 0) for place, part in enumerate(parts)]
    return smaller


def read(pieces: Sequence[Piece], *, complete: bool, parallel: bool) -> Answer:
    """The text, and each call's name and arguments."""
    parser = ToolCallParser([WEATHER, SEARCH], parallel=parallel)
    events = [event for text, tagged in pieces for event in parser.feed(text, tagged=tagged)]
    return folded(events + parser.finish(complete=complete))


def differences(splits: int, chance: random.Random) -> tuple[int, int, int]:
    """How many splits of how many chunks and calls read differently from the whole."""
    texts = [text for text, _, _ in VARIANTS.values()]
    wrong = chunks = calls = 0
    for _ in range(splits):
        answer = chance.choice(["", "\n", " "]).join(chance.choices(texts, k=chance.randint(1, 4)))
        if chance.random() < 0.5:
            answer = answer[: chance.randint(0, len(answer))]
        # The token's text can also be written out, which makes it no token.
        whole = pieces_of(answer) if chance.random() < 0.5 else [(answer, False)]
        how = {"complete": chance.random() < 0.5, "parallel": chance.random() < 0.5}
        parts = split(whole, chance)
        expected = read(whole, **how)
        wrong += read(parts, **how) != expected
        chunks += len(parts)
        calls += len(expected[1])
    return wrong, chunks, calls


def chunks_per_second(texts: Sequence[str]) -> float:
    """The best of five rounds of at least 20,000 chunks each."""
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


def machine() -> str:
    """The processor and the interpreter."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = found[1] if found else platform.machine()
    return f"{name}, Python {platform.python_version()}"


def main() -> None:
    """Measure and print; 1 where a split made a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    wrong, chunks, calls = differences(arguments.splits, chance)
    print(machine())
    print(f"{arguments.splits:,} random splits of {len(VARIANTS)} kinds of answers into "
          f"{chunks:,} chunks, {calls:,} calls: {wrong} differences")  # fmt: skip
    called = [text for text, _, expected in VARIANTS.values() if expected]
    for name, texts in {"short calls": called, "a long call": [LONG], "text": [PROSE]}.items():
        print(f"{name:12} {chunks_per_second(texts):>11,.0f} chunks/s")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
