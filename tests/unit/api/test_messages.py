"""Messages of a chat, as clients and other tools write them, as messages of a dialogue."""

from typing import Any

import pytest
from pydantic import ValidationError

from maxgate.api.chat.converters import convert_messages
from maxgate.api.chat.messages import IGNORED_KEYS, ChatMessage
from maxgate.api.errors import describe_validation_error
from maxgate.errors import InvalidRequest
from maxgate.generation.request import Message, ToolCall

HELLO = {"role": "user", "content": "Hello"}
TURN = {"role": "assistant", "content": "Hi."}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "1"}


def convert(*messages: dict[str, Any]) -> tuple[Message, ...]:
    """Validate and convert the messages."""
    return convert_messages([ChatMessage.model_validate(message) for message in messages])


def reject(*messages: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return param and code of the error for these messages."""
    try:
        convert(*messages)
    except ValidationError as error:
        described = describe_validation_error(error.errors(include_url=False))
        return described.param, described.code
    except InvalidRequest as error:
        return error.param, error.code
    raise AssertionError("the messages were accepted")


@pytest.mark.parametrize("value", ["text", "", None, [], {"a": [1]}, 5])
@pytest.mark.parametrize("key", sorted(IGNORED_KEYS))
def test_ignored_keys(key: str, value: object) -> None:
    """A listed key changes nothing, in a message, a content part, a call or its function."""
    part = {"type": "text", "text": "Hi."}
    extended = {
        "role": "assistant",
        "content": [{**part, key: value}],
        "tool_calls": [{**CALL, "function": {**CALL["function"], key: value}, key: value}],
        key: value,
    }
    if key == "id":
        extended["tool_calls"] = [CALL]
    plain = {"role": "assistant", "content": [part], "tool_calls": [CALL]}
    assert convert(HELLO, extended, RESULT) == convert(HELLO, plain, RESULT)


@pytest.mark.parametrize(
    "key", ["images", "text", "tool_outputs", "weight", "Content", "continue_final_message"]
)
def test_unknown_keys(key: str) -> None:
    """A key that may change the response is rejected."""
    assert reject({**TURN, key: "x"}) == (key, "unknown_parameter")


@pytest.mark.parametrize("key", ["prefix", "partial"])
def test_continued_turn(key: str) -> None:
    """A turn that is to be continued is rejected."""
    assert convert({**TURN, key: False}) == convert(TURN)
    assert reject({**TURN, key: True}) == (key, "invalid_value")


@pytest.mark.parametrize(
    "message",
    [
        {**TURN, "tool_calls": []},
        {**TURN, "tool_calls": None},
        {**TURN, "refusal": "", "name": ""},
        {**TURN, "reasoning_content": "They greet me."},
    ],
)
def test_empty_fields(message: dict[str, Any]) -> None:
    """Empty fields are read as absent."""
    assert convert(HELLO, message) == convert(HELLO, TURN)


@pytest.mark.parametrize("field", ["tool_calls", "refusal", "tool_call_id", "name"])
def test_empty_fields_of_other_roles(field: str) -> None:
    """Empty fields that belong to another role are ignored."""
    empty: object = [] if field == "tool_calls" else ""
    assert convert({**HELLO, field: empty}) == convert(HELLO)


@pytest.mark.parametrize("content", [{"content": []}, {"content": None}, {}])
def test_calls_without_text(content: dict[str, Any]) -> None:
    """An assistant message with calls needs no text."""
    turn = {"role": "assistant", "tool_calls": [CALL], **content}
    assert convert(turn, RESULT)[0] == Message("assistant", (), (ToolCall("a", "f", "{}"),))


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": []},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": None, "tool_calls": [], "reasoning": "Hm."},
    ],
)
def test_empty_turn(message: dict[str, Any]) -> None:
    """An assistant message whose content is empty is an empty turn."""
    assert convert(HELLO, message) == convert(HELLO, {"role": "assistant", "content": ""})


def test_empty_result() -> None:
    """A tool may return nothing."""
    turn = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert convert(turn, {**RESULT, "content": []})[1] == Message("tool", ("",))


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ({"role": "user", "content": []}, "messages[0].content", "empty_array"),
        ({"role": "user", "content": None}, "messages[0].content", "missing_required_parameter"),
        ({"role": "assistant"}, "messages[0].content", "missing_required_parameter"),
        (
            {"role": "assistant", "tool_calls": []},
            "messages[0].content",
            "missing_required_parameter",
        ),
        ({**HELLO, "tool_calls": [CALL]}, "messages[0].tool_calls", "invalid_value"),
        (RESULT, "messages[0].tool_call_id", "invalid_value"),
    ],
)
def test_rejected_messages(message: dict[str, Any], param: str, code: str) -> None:
    """Messages without content and with fields of another role are rejected by field."""
    assert reject(message) == (param, code)


@pytest.mark.parametrize("call_id", ["", "call_0"])
def test_repeated_ids(call_id: str) -> None:
    """Calls may share an id, within a message and between messages."""
    call, result = {**CALL, "id": call_id}, {**RESULT, "tool_call_id": call_id}
    turn = {"role": "assistant", "content": None, "tool_calls": [call, call]}
    roles = [message.role for message in convert(turn, result, result, turn, result, result)]
    assert roles == ["assistant", "tool", "tool"] * 2
    assert reject(turn, result, result, result) == ("messages[3].tool_call_id", "invalid_value")
    assert reject(turn, HELLO) == ("messages[1].role", "invalid_value")
