"""The guardrails layer: input before the engine is called, output on its way to the client."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Alternative, Chunk, TokenLogprob, ToolCallDelta, Usage
from maxgate.generation.collect import collect_stream
from maxgate.generation.context import ANONYMOUS
from maxgate.generation.moderation import Verdict
from maxgate.generation.request import JsonOutput, Message, Tool, ToolCall, ToolUse
from maxgate.guardrails.errors import ContentBlocked, GuardrailUnavailable, UncheckedPrompt
from tests.fakes.backend import FakeBackend
from tests.fakes.guardrails import Counts, FakeModerator, build_guardrails, run_guarded
from tests.fakes.requests import generation_request, served_model

MASK = {"name": "mail", "kind": "pii", "types": ["email"], "action": "mask"}
BLOCK = {"name": "words", "kind": "words", "words": ["falcon"]}
LOG = {**BLOCK, "action": "log"}
MAIL = "ada@example.org"
DONE = Chunk("", "stop", Usage(9, 5))


def script(*texts: str, finish: Chunk = DONE) -> FakeBackend:
    """Make a backend that streams these texts."""
    return FakeBackend([*[Chunk(text, usage=Usage(9, 1)) for text in texts], finish])


def join(chunks: list[Chunk], choice: int = 0) -> tuple[str, str | None]:
    """Return the text of a choice and its finish reason."""
    own = [chunk for chunk in chunks if chunk.choice == choice]
    reasons = [chunk.finish_reason for chunk in own if chunk.finish_reason is not None]
    assert len(reasons) == 1
    return "".join([chunk.text for chunk in own]), reasons[0]


TOOL = Tool("find", "of falcon", {"type": "object"})
BLOCKED_REQUESTS = {
    "messages[0].content": generation_request("a falcon"),
    "messages[1].content": generation_request("a", "FALCON"),
    "messages[0].tool_calls[0].function.arguments": generation_request()._replace(
        messages=(Message("assistant", (), (ToolCall("1", "f", r'{"a": "f\u0061lcon"}'),)),)
    ),
    "tools[0].function.description": generation_request()._replace(tool_use=ToolUse((TOOL,))),
    "tools[0].function.parameters": generation_request()._replace(
        tool_use=ToolUse((Tool("find", "", {"properties": {"falcon": {}}}),))
    ),
    "tools[0].function.name": generation_request()._replace(
        tool_use=ToolUse((Tool("falcon", "", {}),))
    ),
    "tool_choice.function.name": generation_request()._replace(
        tool_use=ToolUse((Tool("find", "", {}),), forced=("falcon",))
    ),
    "messages[0].tool_calls[0].function.name": generation_request()._replace(
        messages=(Message("assistant", (), (ToolCall("1", "falcon", "{}"),)),)
    ),
    "response_format.json_schema.name": generation_request()._replace(
        output=JsonOutput({}, name="falcon")
    ),
    "response_format.json_schema.schema": generation_request()._replace(
        output=JsonOutput({"enum": ["falcon"]})
    ),
    "prompt": generation_request()._replace(raw_prompt="falcon"),
    "chat_template_kwargs": generation_request()._replace(template_variables={"a": ["falcon"]}),
}


@pytest.mark.parametrize("param", BLOCKED_REQUESTS)
async def test_blocked_input(param: str) -> None:
    """A text that a rule blocks is refused by the name of its field, and no engine is called."""
    inner, request, counts = script(), BLOCKED_REQUESTS[param], Counts()
    with pytest.raises(ContentBlocked) as raised:
        await run_guarded(inner, request, BLOCK, counts=counts)
    assert (raised.value.param, raised.value.code, raised.value.status) == (
        param,
        "content_filter",
        400,
    )
    assert "falcon" not in raised.value.message.lower()
    assert inner.requests == []
    assert request.context.decisions == ["words:input:block:1"]
    assert counts.numbers == {("words", "input", "block"): 1}


async def test_names_are_not_masked() -> None:
    """A rule that masks refuses a function whose name has a match."""
    inner = script()
    request = generation_request()._replace(tool_use=ToolUse((Tool(MAIL, "", {}),)))
    with pytest.raises(ContentBlocked) as raised:
        await run_guarded(inner, request, MASK)
    assert (raised.value.rule, raised.value.param) == ("mail", "tools[0].function.name")
    assert MAIL not in raised.value.message
    assert inner.requests == []


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
async def test_roles_and_parts(role: Any) -> None:
    """Messages of all roles are checked, with their parts joined."""
    request = generation_request()._replace(messages=(Message(role, ("a fal", "con")),))
    with pytest.raises(ContentBlocked):
        await run_guarded(script(), request, BLOCK)


async def test_unchecked_prompt() -> None:
    """A prompt of token ids is refused if a rule may refuse it, and served otherwise."""
    request = generation_request()._replace(raw_prompt=(1, 2))
    with pytest.raises(UncheckedPrompt):
        await run_guarded(script(), request, BLOCK)
    assert join(await run_guarded(script("Hi"), request, LOG)) == ("Hi", "stop")


async def test_masked_input() -> None:
    """The engine gets placeholders, and the client its own values."""
    inner = script("Dear <EMA", "IL_1>, <EMAIL_2>", " and <EMAIL_3>")
    request = generation_request(f"Ask {MAIL}", f"{MAIL} or bob@example.org", stream=True)
    chunks = await run_guarded(inner, request, {**MASK, "applies_to": "input"})
    assert inner.requests[0].messages == (
        Message("user", ("Ask <EMAIL_1>",)),
        Message("user", ("<EMAIL_1> or <EMAIL_2>",)),
    )
    assert join(chunks) == (f"Dear {MAIL}, bob@example.org and <EMAIL_3>", "stop")
    assert request.context.decisions == ["mail:input:mask:3"]


async def test_placeholders_of_clients() -> None:
    """A placeholder that a client writes itself is never used for a value."""
    inner = script("<EMAIL_1> <EMAIL_2>")
    request = generation_request(f"What is <EMAIL_1>? {MAIL}")
    chunks = await run_guarded(inner, request, {**MASK, "applies_to": "input"})
    assert inner.requests[0].messages[0].parts == ("What is <EMAIL_1>? <EMAIL_2>",)
    assert join(chunks) == (f"<EMAIL_1> {MAIL}", "stop")


async def test_masked_output() -> None:
    """The client gets placeholders instead of the model's text."""
    chunks = await run_guarded(script(f"Ask {MAIL} or {MAIL}."), generation_request(), MASK)
    assert join(chunks) == ("Ask <EMAIL_1> or <EMAIL_1>.", "stop")


async def test_restored_json() -> None:
    """Values that return into JSON are escaped."""
    rule = {"name": "r", "kind": "regex", "patterns": ['say ".*"'], "action": "mask"}
    inner = script('{"a": "<R_1>"}')
    request = generation_request('say "x"')._replace(output=JsonOutput({}))
    assert join(await run_guarded(inner, request, rule)) == (r'{"a": "say \"x\""}', "stop")


async def test_blocked_output() -> None:
    """A response ends before the match, its engine call is closed, and its tokens count."""
    inner = script("The fal", "con ", "flies")
    request = generation_request(stream=True)
    chunks = await run_guarded(inner, request, BLOCK)
    assert join(chunks) == ("The ", "content_filter")
    assert chunks[-1] == Chunk("", "content_filter", Usage(9, 1))
    assert inner.ended == 1
    assert inner.requests[0].running_usage
    assert request.context.decisions == ["words:output:block:1"]


async def test_blocked_choice() -> None:
    """A choice that is blocked ends, and the others go on."""
    inner = FakeBackend(
        [
            Chunk("falcon ", choice=0),
            Chunk("dove", choice=1),
            Chunk(" again", choice=0),
            Chunk("", "stop", choice=0),
            Chunk(" flies", "stop", Usage(9, 9), choice=1),
        ]
    )
    chunks = await run_guarded(inner, generation_request(stream=True)._replace(n=2), BLOCK)
    assert join(chunks, 0) == ("", "content_filter")
    assert join(chunks, 1) == ("dove flies", "stop")
    assert chunks[-1].usage == Usage(9, 9)


async def test_log() -> None:
    """A rule that only logs changes nothing."""
    request = generation_request("falcon", stream=True)
    chunks = await run_guarded(script("a fal", "con", " falcon"), request, LOG)
    assert [chunk.text for chunk in chunks] == ["a fal", "con", " falcon", ""]
    assert request.context.decisions == ["words:input:log:1", "words:output:log:2"]


async def test_same_groups() -> None:
    """Expressions of different rules may have groups of the same name."""
    rules = [
        {"name": name, "kind": "regex", "patterns": ["(?P<x>a)1", "(?P<x>b)1"]} for name in "ab"
    ]
    assert join(await run_guarded(script("a2 b1"), generation_request(), *rules)) == (
        "a2 ",
        "content_filter",
    )


async def test_lengths() -> None:
    """Texts above a length are refused, and a response ends there."""
    rule = {"name": "size", "kind": "length", "max_characters": 5}
    with pytest.raises(ContentBlocked, match="more than 5 characters"):
        await run_guarded(script(), generation_request("123456"), rule)
    assert join(await run_guarded(script("123", "456"), generation_request("12345"), rule)) == (
        "12345",
        "content_filter",
    )
    assert join(await run_guarded(script("123", "45"), generation_request("1"), rule))[1] == "stop"
    request = generation_request("1")
    await run_guarded(script("123", "456"), request, {**rule, "action": "log"})
    assert request.context.decisions == ["size:output:log:1"]


def call(*pieces: str, name: str = "find") -> tuple[ToolCallDelta, ...]:
    """Make the deltas of a call."""
    return (ToolCallDelta(0, name), *[ToolCallDelta(0, arguments=piece) for piece in pieces])


@pytest.mark.parametrize(
    ("deltas", "rule", "expected"),
    [
        (call('{"a":', '"dove"}'), BLOCK, ('{"a":"dove"}', "tool_calls")),
        (call('{"a": "f\\u0061', 'lcon"}'), BLOCK, (None, "content_filter")),
        (call('{"falcon": 1}'), BLOCK, (None, "content_filter")),
        (call("{}", name="falcon"), BLOCK, (None, "content_filter")),
        (call('{"a": "falcon'), BLOCK, (None, "content_filter")),  # cut off
        (call('{"a": "', f'{MAIL}"}}'), MASK, ('{"a":"<EMAIL_2>"}', "tool_calls")),
        (call('{"a": ["<EMA', 'IL_1>"]}'), MASK, ('{"a":["bob@example.org"]}', "tool_calls")),
    ],
)
async def test_tool_calls(
    deltas: tuple[ToolCallDelta, ...], rule: dict[str, Any], expected: tuple[str | None, str]
) -> None:
    """Names and decoded arguments of calls are filtered; the calls come at the end."""
    pieces = [Chunk(tool_calls=(delta,)) for delta in deltas]
    inner = FakeBackend([*pieces, Chunk("", "tool_calls", Usage(9, 5))])
    chunks = await run_guarded(inner, generation_request("bob@example.org"), rule)
    arguments, reason = expected
    assert join(chunks) == ("", reason)
    name = deltas[0].name
    calls = [delta for chunk in chunks for delta in chunk.tool_calls]
    assert calls == ([] if arguments is None else [ToolCallDelta(0, name, arguments)])


async def test_logprobs() -> None:
    """Logprobs come with their text; those of a match and alternatives that match are left out."""
    tokens = ["An", " ow", "l ", "ada", "@example", ".org", " or"]
    top = (Alternative(" falcon", -1.0), Alternative(" owl", -2.0))
    pieces = [Chunk(token, logprobs=(TokenLogprob(token, -0.5, top),)) for token in tokens]
    inner = FakeBackend([*pieces, DONE])
    request = generation_request(stream=True)
    request = request._replace(sampling=request.sampling._replace(logprobs=2))
    chunks = await run_guarded(inner, request, MASK, BLOCK)
    assert join(chunks) == ("An owl <EMAIL_1> or", "stop")
    assert [token for chunk in chunks for token in chunk.logprobs] == [
        TokenLogprob(token, -0.5, top[1:]) for token in ["An", " ow", "l ", " or"]
    ]
    sent = ""
    for chunk in chunks:
        assert sum(len(token.token) for token in chunk.logprobs) <= len(chunk.text) + len(sent)
        sent += chunk.text


async def test_prompt_logprobs() -> None:
    """Logprobs of an echoed prompt that was changed are left out."""
    echoed = Chunk("falcon", "stop", Usage(3, 0), prompt_logprobs=(TokenLogprob("falcon", -0.5),))
    request = generation_request()._replace(raw_prompt="x", prompt_logprobs=True)
    [chunk] = await run_guarded(FakeBackend([echoed]), request, {**BLOCK, "applies_to": "output"})
    assert chunk == Chunk("", "content_filter", Usage(3, 0))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
async def test_splits(data: st.DataObject) -> None:
    """However the engine splits a response, the client gets the same."""
    words = ["Ask ", MAIL, " falcon", "\n", "<EMAIL_1>", "é", ", ", "fal", "a@b"]
    text = "".join(data.draw(st.lists(st.sampled_from(words), max_size=10)))
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=8).map(sorted))
    cuts = [0, *places, len(text)]
    parts = [text[start:end] for start, end in pairwise(cuts)]
    request = generation_request("bob@example.org", stream=True)
    rules = [MASK, *data.draw(st.sampled_from([[], [BLOCK], [LOG]]))]
    results = [
        (join(await run_guarded(script(*pieces), request, *rules)))
        for pieces in (parts, [text], list(text))
    ]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        ({"projects": ["anonymous"]}, True),
        ({"projects": ["other"]}, False),
        ({"models": ["small"]}, True),
        ({"models": ["other"]}, False),
        ({"projects": ["anonymous"], "models": ["other"]}, False),
    ],
)
async def test_selection(rule: dict[str, Any], applies: bool) -> None:
    """A rule applies to its projects and models only; without one, the stream is the inner one."""
    inner = script("Hi")
    guardrails = build_guardrails({**BLOCK, **rule})
    request = generation_request()
    stream = guardrails.wrap_backend(inner).stream(request)
    assert (stream.ag_code.co_qualname == "FakeBackend.stream") is not applies
    await collect_stream(stream, 1)
    assert request.context.principal is ANONYMOUS


async def test_moderation_requests() -> None:
    """Rules do not apply to requests of moderation models."""
    model = replace(served_model(), task="moderation")
    request = generation_request("falcon", model=model)
    assert join(await run_guarded(script("safe"), request, BLOCK)) == ("safe", "stop")


async def test_failure() -> None:
    """A failure comes after what was sent before it; held text is dropped."""
    inner = FakeBackend([Chunk("An "), Chunk("ow"), UpstreamError("gone")])
    layer = build_guardrails(MASK).wrap_backend(inner)
    sent = []
    with pytest.raises(UpstreamError):
        async for chunk in layer.stream(generation_request(stream=True)):
            sent.append(chunk.text)  # noqa: PERF401  # a comprehension would lose them
    assert sent == ["An ", ""]
    assert inner.ended == 1


MODEL = {"name": "guard", "kind": "model", "model": "guard"}
UNSAFE = Verdict(is_unsafe=True, hazards=("S1",), probability=0.9)


async def test_model_input() -> None:
    """A request that the model calls unsafe is refused; the model gets masked texts."""
    moderator = FakeModerator(UNSAFE)
    request = generation_request(f"Ask {MAIL}")
    with pytest.raises(ContentBlocked, match="'guard'"):
        await run_guarded(script(), request, MODEL, MASK, moderator=moderator)
    [(messages, context)] = moderator.judged
    assert messages == (Message("user", ("Ask <EMAIL_1>",)),)
    assert context is not request.context
    assert request.context.decisions == ["mail:input:mask:1", "guard:input:block:1"]


@pytest.mark.parametrize(
    ("categories", "verdict", "expected"),
    [
        ([], UNSAFE, ("", "content_filter")),
        (["S1"], UNSAFE, ("", "content_filter")),
        (["S2"], UNSAFE, ("An owl", "stop")),
        (["S2"], UNSAFE._replace(hazards=()), ("", "content_filter")),
        ([], None, ("An owl", "stop")),
    ],
)
async def test_model_output(
    categories: list[str], verdict: Verdict | None, expected: tuple[str, str]
) -> None:
    """A response is held back until the model has judged the whole of it."""
    moderator = FakeModerator(verdict)
    rule = {**MODEL, "categories": categories, "applies_to": "output"}
    chunks = await run_guarded(
        script("An ", "owl"), generation_request(stream=True), rule, moderator=moderator
    )
    assert join(chunks) == expected
    assert [chunk.text for chunk in chunks if chunk.text] == [expected[0]] * bool(expected[0])
    assert moderator.judged[0][0][-1] == Message("assistant", ("An owl",))


@pytest.mark.parametrize("applies_to", ["input", "output"])
async def test_model_failure(applies_to: str) -> None:
    """Without a verdict, a closed rule refuses and an open one serves; both are recorded."""
    moderator = FakeModerator(UpstreamError("no engine"))
    request = generation_request()
    rule = {**MODEL, "applies_to": applies_to}
    with pytest.raises(GuardrailUnavailable):
        await run_guarded(script("Hi"), request, rule, moderator=moderator)
    chunks = await run_guarded(
        script("Hi"), request, {**rule, "on_failure": "open"}, moderator=moderator
    )
    assert join(chunks) == ("Hi", "stop")
    assert request.context.decisions == [
        f"guard:{applies_to}:failed_closed:1",
        f"guard:{applies_to}:failed_open:1",
    ]
