"""Answers that have to be JSON, where the engine has no grammar."""

from dataclasses import replace

from maxgate.generation.chunk import Alternative, Chunk, TokenLogprob, Usage
from maxgate.generation.collect import collect
from maxgate.generation.request import JsonOutput
from maxgate.structured_output.layer import StructuredOutputLayer
from tests.fakes.backend import FakeBackend
from tests.fakes.requests import generation_request, served_model

RETRIES = replace(served_model(), structured_output="retry")


async def test_an_answer_has_the_logprobs_of_its_own_tokens() -> None:
    tokens = [
        TokenLogprob(text, -0.5, (Alternative(text, -0.5),))
        for text in (" ", '{"a"', ": 1}", " and", " more")
    ]
    script = [Chunk(one.token, usage=Usage(3, 1), logprobs=(one,)) for one in tokens]
    asked = generation_request(model=RETRIES)._replace(output=JsonOutput({}))
    inner = FakeBackend(script)
    [answer] = (await collect(StructuredOutputLayer(inner), asked)).choices
    assert (answer.text, answer.logprobs) == ('{"a": 1}', tuple(tokens[:3]))
