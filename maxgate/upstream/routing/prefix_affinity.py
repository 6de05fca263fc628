"""Send a prompt to a replica that has its beginning in the prefix cache.

MAX caches the keys and values of whole blocks of tokens. A block is found again if all blocks
before it are the same, so a block is named by the hash of the prompt up to its end.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from maxgate.generation.request import TokenIds
from maxgate.upstream.replica import Replica
from maxgate.upstream.routing.affinity import find_roomy, rank_replicas
from maxgate.upstream.routing.policy import LeastLoaded, RoutingKey


def hash_blocks(model: str, prompt: TokenIds, block_size: int) -> list[bytes]:
    """Return the names of the prompt's whole blocks, in order."""
    ids = prompt.json.split(b",") if prompt.length >= block_size else []
    prefix = hashlib.blake2b(model.encode(), digest_size=8)
    names = []
    for start in range(0, len(ids) - block_size + 1, block_size):
        prefix.update(b",".join([b"", *ids[start : start + block_size]]))
        names.append(prefix.copy().digest())
    return names


class PrefixIndex:
    """Remembers which replicas have served which blocks; the least recently used are dropped.

    Replicas are named by their URLs.
    """

    def __init__(self, max_blocks: int) -> None:
        self._max_blocks = max_blocks
        self._urls: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._urls)

    def add(self, blocks: Sequence[bytes], url: str) -> None:
        """Record that the replica has served a prompt with these blocks."""
        urls_by_block = self._urls
        # The last block first, so that chains are dropped from their end.
        for block in reversed(blocks):
            urls = urls_by_block.get(block, ())
            if url not in urls:
                urls_by_block[block] = (*urls, url)
            urls_by_block.move_to_end(block)
        while len(urls_by_block) > self._max_blocks:
            urls_by_block.popitem(last=False)

    def match(self, blocks: Sequence[bytes]) -> Mapping[str, int]:
        """Return the number of leading blocks that each replica has served, if there are any."""
        lengths: dict[str, int] = {}
        for number, block in enumerate(blocks):
            urls = self._urls.get(block)
            if urls is None:
                break
            for url in urls:
                if lengths.get(url, 0) == number:
                    lengths[url] = number + 1
        return lengths


class PrefixAffinity:
    """Chooses the replica with the longest known prefix of the prompt, below the load bound.

    Equals are chosen by load. Unknown prefixes go where any other gateway would send them, by the
    hash of their first block. Prompts without a whole block, or that the engine formats, go to the
    least loaded replica.
    """

    def __init__(self, *, block_size: int, load_factor: float, max_blocks: int) -> None:
        self._block_size = block_size
        self._load_factor = load_factor
        self._index = PrefixIndex(max_blocks)
        self._least_loaded = LeastLoaded()

    def choose(self, replicas: Sequence[Replica], key: RoutingKey) -> Replica:
        """Return one of the replicas and remember the choice; see RoutingPolicy."""
        blocks = [] if key.prompt is None else hash_blocks(key.model, key.prompt, self._block_size)
        if not blocks:
            return self._least_loaded.choose(replicas, key)
        roomy = find_roomy(replicas, self._load_factor)
        lengths = self._index.match(blocks)
        longest = max(lengths.get(replica.url, 0) for replica in roomy)
        if longest == 0:
            chosen = rank_replicas(roomy, blocks[0])[0]
        else:
            equals = [replica for replica in roomy if lengths.get(replica.url) == longest]
            chosen = self._least_loaded.choose(equals, key)
        self._index.add(blocks, chosen.url)
        return chosen
