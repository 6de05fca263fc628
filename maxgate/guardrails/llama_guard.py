"""Verdicts of models in the format of Llama Guard.

The prompt and the response follow Meta's prompt format document of Llama Guard 3.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from typing_extensions import override

from maxgate.errors import UpstreamError
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ServedModel
from maxgate.generation.collect import CompletedChoice, collect
from maxgate.generation.context import RequestContext
from maxgate.generation.moderation import HAZARDS, Moderator, Verdict
from maxgate.generation.request import GenerationRequest, Message, Sampling
from maxgate.generation.request_record import RequestRecord

_MAX_MESSAGES: Final = 8
_MAX_TOKENS: Final = 100
_SEPARATORS: Final = re.compile(r"<(?=(?:BEGIN|END) )")
_HAZARD: Final = re.compile(r"S(?:1[0-4]|[1-9])\b")
_CATEGORIES: Final = "".join([f"{code}: {name}.\n" for code, name in HAZARDS.items()])


class LlamaGuard(Moderator):
    """Asks models of a backend for verdicts."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @override
    async def judge(
        self, messages: Sequence[Message], model: ServedModel, context: RequestContext
    ) -> Verdict:
        logprobs = 0 if model.capabilities.logprobs else None
        request = GenerationRequest(
            model=model,
            messages=(write_prompt(messages),),
            sampling=Sampling(0.0, 1.0, max_tokens=_MAX_TOKENS, logprobs=logprobs),
            stream=False,
            context=context,
        )
        completion = await collect(self._backend, request)
        return read_verdict(completion.choices[0])


def write_prompt(messages: Sequence[Message]) -> Message:
    """Return the message that asks for a verdict on the last of the messages.

    Messages of users, and those of other roles that are no responses, are the user's. Earlier
    messages than the last few are left out.
    """
    recent = messages[-_MAX_MESSAGES:]
    judged = _name_role(recent[-1])
    dialogue = [
        part
        for message in recent
        for part in (f"{_name_role(message)}: ", _clean("".join(message.parts)), "\n\n")
    ]
    # Text of the dialogue is a part by itself, as in every prompt.
    return Message(
        "user",
        (
            f"Task: Check if there is unsafe content in '{judged}' messages in conversations "
            "according our safety policy with the below categories.\n\n"
            f"<BEGIN UNSAFE CONTENT CATEGORIES>\n{_CATEGORIES}<END UNSAFE CONTENT CATEGORIES>\n\n"
            "<BEGIN CONVERSATION>\n\n",
            *dialogue,
            "<END CONVERSATION>\n\n"
            f"Provide your safety assessment for ONLY THE LAST {judged} message in the above "
            "conversation:\n - First line must read 'safe' or 'unsafe'.\n - If unsafe, a second "
            "line must include a comma-separated list of violated categories.",
        ),
    )


def _name_role(message: Message) -> str:
    return "Agent" if message.role == "assistant" else "User"


def _clean(text: str) -> str:
    """Remove what would end the dialogue."""
    return _SEPARATORS.sub("", text)


def read_verdict(choice: CompletedChoice) -> Verdict:
    """Read `safe`, or `unsafe` and a line of categories; raise UpstreamError for anything else."""
    first, _, rest = choice.text.strip().partition("\n")
    word = first.strip().lower()
    if word not in {"safe", "unsafe"}:
        raise UpstreamError("The response of the moderation model is no verdict.")
    is_unsafe = word == "unsafe"
    probability = float(is_unsafe)
    for token in choice.logprobs:
        if beginning := token.token.strip().lower():
            # The word may be split: `un`, `safe`.
            certainty = math.exp(min(token.logprob, 0.0))
            if word.startswith(beginning):
                probability = certainty if is_unsafe else 1 - certainty
            break
    hazards = dict.fromkeys(_HAZARD.findall(rest)) if is_unsafe else ()
    return Verdict(is_unsafe, tuple(hazards), probability)


async def judge_apart(
    moderator: Moderator,
    messages: Sequence[Message],
    model: ServedModel,
    context: RequestContext,
) -> Verdict:
    """Judge with a context apart, so that the call does not count as one of the client's.

    What it reserves is settled at its end.
    """
    record = context.record
    own = replace(
        context,
        record=RequestRecord(
            record.request_id, record.method, record.route, record.started_at, trace=record.trace
        ),
        engine_calls=None,
        fans_out=False,
        reservation=None,
        decisions=[],
        model=model.name,
    )
    try:
        return await moderator.judge(messages, model, own)
    finally:
        if own.reservation is not None:
            own.reservation.settle(own.record)
