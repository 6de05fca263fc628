"""Refusing by name what the engine of a model cannot do."""

from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import ServedModel
from maxgate.generation.request import Sampling

MOST_ALTERNATIVES = 7


def check_abilities(sampling: Sampling, model: ServedModel, *, logprobs_param: str) -> None:
    """What the engine would ignore or refuse without a good reason is refused here.

    Raises InvalidRequest that names the field and what its operator can do.
    """
    abilities = model.abilities
    if abilities.penalties is False:
        for field in ("frequency_penalty", "presence_penalty"):
            if getattr(sampling, field):
                raise _unsupported(field, "--enable-penalties")
    if sampling.logprobs is None:
        return
    if abilities.logprobs is False:
        raise _unsupported("logprobs", "--no-enable-overlap-scheduler")
    if sampling.logprobs > MOST_ALTERNATIVES:
        raise InvalidRequest(
            f"Invalid value for '{logprobs_param}': the engine tells at most "
            f"{MOST_ALTERNATIVES} alternatives.",
            param=logprobs_param,
            code="integer_above_max_value",
        )


def _unsupported(field: str, flag: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{field}': the engine of this model runs without it. Its operator "
        f"can start MAX with {flag}.",
        param=field,
        code="unsupported_parameter",
    )
