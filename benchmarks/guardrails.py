"""Measure what guardrails find, and the time that they add.

    python -m benchmarks.guardrails [--rounds 30] [--json]

Precision and recall of each kind are those in the texts made of tests/data/guardrails/cases.yaml.
The added times are CPU time of a worker: of the layer around a backend that responds at once, minus
that of the backend alone, as the median of the rounds. The first request, which fills the caches of
the expressions, is left out. The prompt is ordinary English; chunks have one word.

`first token` is the time to check the prompt and the first chunk, `chunk` that of each further one.
`held back` is the mean number of characters that are held back after a chunk.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest
from tests.fakes.guardrail_cases import RULES, build_detectors, measure_quality, read_cases
from tests.fakes.guardrails import build_guardrails
from tests.fakes.requests import generation_request

SENTENCE: Final = "The quick brown fox jumps over the lazy dog and runs into the dark forest. "
CHUNKS: Final = 300
PROMPTS: Final = {"1,000 characters": 1_000, "7,500 characters": 7_500}
RULE_SETS: Final[Mapping[str, tuple[dict[str, Any], ...]]] = {
    "e-mail": ({"name": "a", "kind": "pii", "types": ["email"], "action": "mask"},),
    "pii (US)": ({"name": "a", "kind": "pii", "action": "mask"},),
    "secrets": ({"name": "a", "kind": "secrets", "action": "block"},),
    "100 words": (
        {
            "name": "a",
            "kind": "words",
            "action": "block",
            "words": [f"word{number}" for number in range(100)],
        },
    ),
    "all of these": RULES,
}


class Added(NamedTuple):
    """Added times in microseconds, and characters held back."""

    first_token: dict[str, float]
    chunk: float
    held_back: float


class WordBackend(Backend):
    """Streams words."""

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Yield CHUNKS words, one per chunk."""
        del request
        words = SENTENCE.split()
        for number in range(CHUNKS):
            yield Chunk(f" {words[number % len(words)]}")
        yield Chunk("", "stop", Usage(9, CHUNKS))


async def time_stream(backend: Backend, prompt: str) -> tuple[float, float, float]:
    """Return the seconds until the first chunk and for all others, and the characters held back."""
    request = generation_request(prompt, stream=True)
    started = time.process_time()
    received, sent, held = 0, 0, 0
    async with aclosing(backend.stream(request)) as chunks:
        async for chunk in chunks:
            if received == 0:
                first = time.process_time()
            received += 1
            sent += len(chunk.text)
            words = SENTENCE.split()
            if received <= CHUNKS:
                generated = sum(len(words[n % len(words)]) + 1 for n in range(received))
                held += generated - sent
    return first - started, time.process_time() - first, held / CHUNKS


async def measure(rules: tuple[dict[str, Any], ...], rounds: int) -> Added:
    """Measure the added times of one set of rules."""
    plain = WordBackend()
    guarded = build_guardrails(*rules).wrap_backend(plain)
    first_token = {}
    for name, length in PROMPTS.items():
        prompt = (SENTENCE * (length // len(SENTENCE) + 1))[:length]
        await time_stream(guarded, prompt)
        firsts, others, held = [], [], 0.0
        for _ in range(rounds):
            base = await time_stream(plain, prompt)
            with_rules = await time_stream(guarded, prompt)
            firsts.append(with_rules[0] - base[0])
            others.append((with_rules[1] - base[1]) / CHUNKS)
            held = with_rules[2]
        first_token[name] = statistics.median(firsts) * 1e6
    return Added(first_token, statistics.median(others) * 1e6, held)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="rounds of each measurement")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    quality = measure_quality(build_detectors())
    added = {name: asyncio.run(measure(rules, options.rounds)) for name, rules in RULE_SETS.items()}
    if options.json:
        result = {
            "quality": {
                label: {**one._asdict(), "precision": one.precision, "recall": one.recall}
                for label, one in quality.items()
            },
            "added": {name: one._asdict() for name, one in added.items()},
        }
        json.dump(result, sys.stdout, indent=2)
        return
    positive = sum(case.label is not None for case in read_cases())
    print(f"{positive} texts with a passage, {len(read_cases()) - positive} without\n")
    print("| kind | passages | precision | recall |\n|---|---|---|---|")
    for label, one in quality.items():
        total = one.right + one.missed
        print(f"| {label} | {total} | {one.precision:.1%} | {one.recall:.1%} |")
    heads = " | ".join([f"first token, {name}" for name in PROMPTS])
    print(f"\n| rules | {heads} | chunk | held back |\n|---|---|---|---|---|")
    for name, times in added.items():
        firsts = " | ".join([f"{value:.0f} µs" for value in times.first_token.values()])
        print(f"| {name} | {firsts} | {times.chunk:.1f} µs | {times.held_back:.1f} |")


if __name__ == "__main__":
    main()
