"""What came out: tokens and the pieces that they came in."""

from maxgate.tools.loadtest.analysis.measures import chunk_gaps, output_tokens
from maxgate.tools.results.level import Chunks, Tokens
from maxgate.tools.results.records import Records

STALL_SECONDS = 0.3
"""A reader notices a pause of this length in running text."""


def tokens_of(ok: Records) -> Tokens:
    """Of the requests that were answered."""
    known = ok["output_tokens"] >= 0
    inputs, cached = ok["input_tokens"], ok["cached_tokens"]
    counted = "usage" if known.all() else "mixed" if known.any() else "chunks"
    return Tokens(
        input=int(inputs[inputs >= 0].sum()) if (inputs >= 0).any() else None,
        cached=int(cached[cached >= 0].sum()) if (cached >= 0).any() else None,
        output=int(output_tokens(ok).sum()),
        counted_by=counted,
    )


def chunks_of(ok: Records) -> Chunks:
    """The same."""
    pieces, known = int(ok["chunks"].sum()), ok["output_tokens"] >= 0
    counted = int(ok["chunks"][known].sum())
    return Chunks(
        count=pieces,
        tokens_per_chunk=int(ok["output_tokens"][known].sum()) / counted if counted else None,
        shared_reads=int(ok["shared"].sum()),
        stalls=int((chunk_gaps(ok) > STALL_SECONDS).sum()),
        stall_seconds=STALL_SECONDS,
    )
