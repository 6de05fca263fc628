"""Sampling parameters, OpenAI's and the extensions, and what an engine must support for them."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from maxgate.api.sampling import SampledRequest, check_capabilities, convert_sampling
from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import Capabilities
from maxgate.generation.request import Sampling
from tests.fakes.requests import served_model

MODEL = served_model()
INCAPABLE = replace(MODEL, capabilities=Capabilities(False, False, False, False))


def convert(max_tokens: int | None = None, **fields: Any) -> Sampling:
    """Validate and convert the fields."""
    body = SampledRequest.model_validate(fields)
    return convert_sampling(body, MODEL, max_tokens=max_tokens, logprobs=None)


@pytest.mark.parametrize(
    ("fields", "converted"),
    [
        ({}, {}),
        ({"top_k": -1}, {"top_k": -1}),
        ({"top_k": 40, "min_p": 0.1}, {"top_k": 40, "min_p": 0.1}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"min_tokens": 7}, {"min_tokens": 7}),
        ({"ignore_eos": True, "min_tokens": 7}, {"ignore_eos": True}),
        ({"ignore_eos": False, "stop_token_ids": [5]}, {"stop_token_ids": (5,)}),
        ({"priority": -3, "skip_special_tokens": True}, {}),
        ({"include_stop_str_in_output": False}, {}),
    ],
)
def test_extensions(fields: dict[str, Any], converted: dict[str, Any]) -> None:
    """Extensions that are given are kept, and null is the same as leaving them out."""
    assert convert(**fields) == Sampling(1.0, 1.0, **converted)
    assert convert(**dict.fromkeys(fields)) == Sampling(1.0, 1.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"top_k": -2},
        {"top_k": 1.5},
        {"min_p": 1.1},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": 1e-30},
        {"repetition_penalty": 1e30},
        {"min_tokens": -1},
        {"ignore_eos": 1},
        {"stop_token_ids": [-1]},
        {"stop_token_ids": [1] * 129},
        {"priority": "high"},
        {"priority": 0.5},
        {"skip_special_tokens": False},
        {"include_stop_str_in_output": True},
    ],
)
def test_invalid_values(fields: dict[str, Any]) -> None:
    """Values that MAX cannot use, or would ignore, are rejected by field."""
    with pytest.raises(ValidationError) as caught:
        SampledRequest.model_validate(fields)
    [error] = caught.value.errors()
    assert error["loc"][0] == next(iter(fields))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream_options": {}}, "stream_options"),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
        ),
        ({"max_tokens": 5, "min_tokens": 6}, "min_tokens"),
        ({"min_tokens": 101}, "min_tokens"),
        ({"ignore_eos": True, "stop_token_ids": [5]}, "stop_token_ids"),
    ],
)
def test_contradictions(fields: dict[str, Any], param: str) -> None:
    """Fields that contradict each other are rejected by name."""
    with pytest.raises(InvalidRequest) as caught:
        convert(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("sampling", "param", "flag"),
    [
        ({"frequency_penalty": 1.0}, "frequency_penalty", "--enable-penalties"),
        ({"presence_penalty": -1.0}, "presence_penalty", "--enable-penalties"),
        ({"repetition_penalty": 1.1}, "repetition_penalty", "--enable-penalties"),
        ({"min_tokens": 1}, "min_tokens", "--enable-min-tokens"),
        ({"logprobs": 0}, "logprobs", "--no-enable-overlap-scheduler"),
    ],
)
def test_missing_capability(sampling: dict[str, Any], param: str, flag: str) -> None:
    """A field that the engine would ignore is rejected with the flag that enables it."""
    wanted = Sampling(1.0, 1.0, **sampling)
    with pytest.raises(InvalidRequest, match=flag) as caught:
        check_capabilities(wanted, INCAPABLE, logprobs_param="top_logprobs")
    assert caught.value.param == param
    check_capabilities(wanted, MODEL, logprobs_param="top_logprobs")


def test_neutral_penalties() -> None:
    """Penalties that change nothing need no capability."""
    neutral = Sampling(1.0, 1.0, repetition_penalty=1.0)
    check_capabilities(neutral, INCAPABLE, logprobs_param="top_logprobs")
