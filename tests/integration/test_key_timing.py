"""The time of a refusal does not depend on how much of a key is right."""

import gc
import random
import string
import time
import zlib
from collections.abc import Callable, Coroutine, Sequence
from itertools import combinations
from statistics import median
from typing import Any

import pytest
from typing_extensions import override

from maxgate.auth.api_key import PREFIX, generate_key, hash_key, is_well_formed
from maxgate.auth.identity import Identity, InvalidCredential
from maxgate.auth.key_verifier import KeyStore, KeyVerifier, StoredKey
from maxgate.clock import SystemClock
from maxgate.generation.context import Principal
from tests.fakes.api_keys import PEPPER

pytestmark = pytest.mark.timing

ROUNDS = 10_000
BOUND = 0.015
"""Of the time of a refusal, so about 200 ns; the noise of ten runs was at most 0.3 %."""
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
Check = Callable[[str], None]


class _Keys(KeyStore):
    """Keys in a dictionary."""

    def __init__(self, keys: Sequence[str]) -> None:
        identity = Identity(Principal("a", "a", "a", "a", "default"))
        digests = [hash_key(key, PEPPER.encode()) for key in keys]
        self._keys = {digest: StoredKey(digest, identity) for digest in digests}

    @property
    @override
    def peppers(self) -> Sequence[bytes]:
        return [PEPPER.encode()]

    @override
    async def find(self, digest: bytes) -> StoredKey | None:
        return self._keys.get(digest)


def change(key: str, position: int) -> str:
    """Return the key with another character there, and the checksum of the new text."""
    body = list(key[:-6])
    at = len(PREFIX) + position if position >= 0 else position
    body[at] = ALPHABET[(ALPHABET.index(body[at]) + 1) % len(ALPHABET)]
    text, number, checksum = "".join(body), zlib.crc32("".join(body).encode()), ""
    for _ in range(6):
        number, digit = divmod(number, len(ALPHABET))
        checksum = ALPHABET[digit] + checksum
    return text + checksum


def refuse(work: Coroutine[Any, Any, object]) -> None:
    """Run a verification that waits for nothing, and is refused."""
    try:
        work.send(None)
    except InvalidCredential:
        return
    raise AssertionError("the key was not refused")


def measure(check: Check, kinds: dict[str, Sequence[str]]) -> dict[str, float]:
    """Return the median time in ns of each kind, in rounds of random order."""
    times: dict[str, list[int]] = {kind: [] for kind in kinds}
    names, order = list(kinds), random.Random(1)
    gc.disable()
    try:
        for number in range(ROUNDS):
            order.shuffle(names)
            for kind in names:
                key = kinds[kind][number % len(kinds[kind])]
                begin = time.perf_counter_ns()
                check(key)
                times[kind].append(time.perf_counter_ns() - begin)
    finally:
        gc.enable()
    return {kind: median(found) for kind, found in times.items()}


def find_differences(check: Check, keys: Sequence[str]) -> dict[tuple[str, str], float]:
    """Return the relative difference of the medians of each two kinds of wrong keys."""
    kinds = {
        "wrong first character": [change(key, 0) for key in keys],
        "wrong last character": [change(key, -1) for key in keys],
        "unknown key": [generate_key() for _ in keys],
    }
    assert all(is_well_formed(key) for wrong in kinds.values() for key in wrong)
    medians = measure(check, kinds)
    return {
        (one, other): abs(medians[one] - medians[other]) / min(medians.values())
        for one, other in combinations(kinds, 2)
    }


def test_refusals() -> None:
    """Refusals of wrong keys take equally long, wherever the mistake is."""
    keys = [generate_key() for _ in range(50)]
    verifier = KeyVerifier(_Keys(keys), SystemClock())
    differences = find_differences(lambda key: refuse(verifier.verify(key)), keys)
    assert {kinds: found for kinds, found in differences.items() if found > BOUND} == {}


def test_statistic() -> None:
    """The same statistic detects a comparison that stops at the first difference."""
    stored = generate_key()
    verifier = KeyVerifier(_Keys([stored]), SystemClock())

    def compare(key: str) -> None:
        refuse(verifier.verify(key))
        for left, right in zip(key, stored, strict=True):
            if left != right:
                break

    differences = find_differences(compare, [stored])
    assert differences["wrong first character", "wrong last character"] > BOUND
