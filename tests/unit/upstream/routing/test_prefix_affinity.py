"""Prompts go to the replica that has cached their beginning."""

import math
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from maxgate.generation.request import TokenIds
from maxgate.upstream.replica import Replica
from maxgate.upstream.routing.policy import LeastLoaded, RoutingKey, RoutingPolicy
from maxgate.upstream.routing.prefix_affinity import PrefixAffinity, PrefixIndex, hash_blocks
from tests.unit.upstream.routing.test_affinity import FACTOR, create_replicas

BLOCK = 4


def create_policy(max_blocks: int = 10_000) -> PrefixAffinity:
    """Return a policy with small blocks."""
    return PrefixAffinity(block_size=BLOCK, load_factor=FACTOR, max_blocks=max_blocks)


def create_key(ids: Sequence[int], model: str = "small") -> RoutingKey:
    """Return the key of a prompt with these tokens."""
    return RoutingKey(model, TokenIds.of([*ids]))


def test_blocks() -> None:
    """Prompts share the names of the whole blocks with which both begin, within one model."""
    first = hash_blocks("small", TokenIds.of([1, 2, 3, 4, 5, 6, 7, 8, 9]), BLOCK)
    second = hash_blocks("small", TokenIds.of([1, 2, 3, 4, 5, 6, 7, 0]), BLOCK)
    assert (len(first), len(second)) == (2, 2)
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert hash_blocks("small", TokenIds.of([12, 3, 4, 5]), BLOCK) != [
        *hash_blocks("small", TokenIds.of([1, 23, 4, 5]), BLOCK)
    ]
    assert hash_blocks("other", TokenIds.of([1, 2, 3, 4]), BLOCK) != first[:1]
    assert hash_blocks("small", TokenIds.of([1, 2, 3]), BLOCK) == []
    assert hash_blocks("small", TokenIds.of([]), BLOCK) == []


def test_index() -> None:
    """The index counts the leading blocks that each replica has served."""
    index = PrefixIndex(100)
    index.add([b"a", b"b", b"c"], "x")
    index.add([b"a", b"b"], "y")
    assert index.match([b"a", b"b", b"c", b"d"]) == {"x": 3, "y": 2}
    assert index.match([b"b", b"c"]) == {"x": 2, "y": 1}
    assert index.match([b"d", b"a"]) == {}


@given(st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=40), st.integers(1, 8))
def test_index_is_bounded(chains: list[list[int]], max_blocks: int) -> None:
    """The index never has more blocks than allowed, and keeps the ones used last."""
    index = PrefixIndex(max_blocks)
    for chain in chains:
        ids = [value for value in chain for _ in range(BLOCK)]
        blocks = hash_blocks("small", TokenIds.of(ids), BLOCK)
        index.add(blocks, "x")
        assert len(index) <= max_blocks
        assert index.match(blocks).get("x", 0) == min(len(blocks), max_blocks)


def test_longest_prefix() -> None:
    """A prompt goes to the replica with its longest prefix, also if another one is idle."""
    policy, replicas = create_policy(), create_replicas(3)
    own = policy.choose(replicas, create_key(range(8)))
    others = [replica for replica in replicas if replica is not own]
    policy.choose(others, create_key(range(4)))  # knows one block of two
    for replica in others:
        replica.in_flight = 4
    own.in_flight = 3
    assert policy.choose(replicas, create_key(range(12))) is own


def test_gateways_agree() -> None:
    """Gateways that do not know a prefix choose the same replica for it."""
    replicas, first, second = create_replicas(5), create_policy(), create_policy()
    keys = [create_key(range(start, start + 9)) for start in range(50)]
    chosen = [first.choose(replicas, key) for key in keys]
    assert [second.choose(replicas[::-1], key) for key in keys] == chosen
    assert set(chosen) == set(replicas)


def test_hot_prefix_spreads() -> None:
    """Requests with the same prompt spread within the load bound, then over known replicas."""
    policy, replicas, key = create_policy(), create_replicas(3), create_key(range(8))
    for sent in range(1, 91):
        chosen = policy.choose(replicas, key)
        chosen.in_flight += 1
        assert chosen.in_flight <= math.ceil(FACTOR * sent / 3)
    assert min(replica.in_flight for replica in replicas) >= 20


def test_short_prompt() -> None:
    """Prompts without a whole block, or that the engine formats, go to the least loaded replica."""
    busy, idle = create_replicas(2)
    busy.in_flight = 2
    assert create_policy().choose([busy, idle], create_key([1, 2, 3])) is idle
    assert create_policy().choose([busy, idle], RoutingKey("small")) is idle


def count_cached_blocks(policy: RoutingPolicy, seed: int) -> float:
    """Return the share of blocks found in the cache, of those that some replica had cached.

    60 conversations over three replicas, 12 requests in flight at once. A replica has cached the
    blocks of every prompt that it has served.
    """
    draw, replicas = random.Random(seed), create_replicas(3)  # no secret
    system = [draw.randrange(1000) for _ in range(2 * BLOCK)]
    prompts = [list(system) for _ in range(60)]
    caches: dict[Replica, set[bytes]] = {replica: set() for replica in replicas}
    running: list[Replica] = []
    hits = total = 0
    for _ in range(600):
        prompt = draw.choice(prompts)
        prompt += [draw.randrange(1000) for _ in range(3 * BLOCK)]
        key = create_key(prompt)
        replica = policy.choose(replicas, key)
        blocks = hash_blocks(key.model, TokenIds.of(prompt), BLOCK)
        hits += sum(block in caches[replica] for block in blocks)
        total += sum(any(block in cache for cache in caches.values()) for block in blocks)
        caches[replica].update(blocks)
        replica.in_flight += 1
        running.append(replica)
        if len(running) == 12:
            running.pop(draw.randrange(12)).in_flight -= 1
    return hits / total


def test_multi_turn_conversations() -> None:
    """Conversations miss about a tenth of their cached blocks, by load about a quarter."""
    assert min(count_cached_blocks(create_policy(), seed) for seed in range(5)) > 0.85
    assert max(count_cached_blocks(LeastLoaded(), seed) for seed in range(5)) < 0.8
