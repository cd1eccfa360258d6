"""What rows mean: every format as messages, and every way that a row is none."""

import json

import pytest

from olivepress.core.errors import PressError
from olivepress.core.jsonl import BadRow
from olivepress.data.formats import Pair, Reader, Row, check_columns

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}
SYSTEM = {"role": "system", "content": "be brief"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}, "id": "1"}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]


def read(value: dict, **options) -> Row | Pair:
    return Reader(**options).read("x:1", value)


def error(value: dict, **options) -> str:
    with pytest.raises(BadRow) as caught:
        read(value, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("format", "value", "messages"),
    [
        ("prompt-response", {"prompt": "hi", "response": "hello"}, [USER, ANSWER]),
        ("prompt-response", {"system": "be brief", "prompt": "hi", "response": "hello"}, [SYSTEM, USER, ANSWER]),
        ("messages", {"messages": [SYSTEM, USER, ANSWER, USER, ANSWER]}, [SYSTEM, USER, ANSWER, USER, ANSWER]),
        ("messages", {"messages": json.dumps([USER, ANSWER])}, [USER, ANSWER]),
        ("messages", {"conversations": [USER, ANSWER]}, [USER, ANSWER]),
        ("messages", {"messages": [{**USER, "content": [{"type": "text", "text": "hi"}]}, ANSWER]}, [USER, ANSWER]),
        ("messages", {"messages": [{**SYSTEM, "role": "developer"}, USER, ANSWER]}, [SYSTEM, USER, ANSWER]),
        ("messages", {"messages": [USER, {**ANSWER, "tool_calls": None, "refusal": None}]}, [USER, ANSWER]),
        ("alpaca", {"instruction": "hi", "output": "hello"}, [USER, ANSWER]),
        ("alpaca", {"instruction": "hi", "input": "", "output": "hello"}, [USER, ANSWER]),
        (
            "alpaca",
            {"instruction": "Sum up.", "input": "A text.", "output": "hello"},
            [{"role": "user", "content": "Sum up.\n\nA text."}, ANSWER],
        ),
        (
            "sharegpt",
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
            [USER, ANSWER],
        ),
        (
            "sharegpt",
            {"conversations": [{"from": name, "value": text} for name, text in
                               (("system", "be brief"), ("Human", "hi"), ("GPT", "hello"))]},
            [SYSTEM, USER, ANSWER],
        ),
    ],
)  # fmt: skip
def test_formats_are_found_and_read(format, value, messages):
    reader = Reader()
    row = reader.read("x:1", value)
    assert row == Row("x:1", messages)
    assert reader.format == format
    assert read(value, format=format) == row


def test_tool_calls_and_tools_are_kept_with_arguments_as_objects():
    asked = {**CALL, "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [asked]},
                {"role": "tool", "tool_call_id": "1", "content": "rain"}, ANSWER]  # fmt: skip
    row = read({"messages": messages, "tools": json.dumps(TOOLS)})
    assert row.tools == TOOLS
    assert row.messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert row.messages[2] == messages[2]


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "hi", "chosen": "hello", "rejected": "go away"},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [{**ANSWER, "content": "go away"}]},
        {"chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "go away"}]},
        {"prompt": "hi", "chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "go away"}]},
        {"prompt": "hi", "chosen": [ANSWER], "rejected": [{**ANSWER, "content": "go away"}]},
    ],
)
def test_preferences(value):
    assert read(value) == Pair("x:1", [USER], [ANSWER], [{**ANSWER, "content": "go away"}])


def test_columns_rename_and_what_is_not_used_is_counted():
    reader = Reader(columns={"prompt": "question", "response": "answer"})
    for _ in range(2):
        row = reader.read("x:1", {"question": "hi", "answer": "hello", "source": "web", "prompt": "other", "note": ""})
    assert row == Row("x:1", [USER, ANSWER])
    assert reader.unused == {"source": 2}


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(PressError, match=r"columns: 'text' is there twice"):
        check_columns({"prompt": "text", "response": "text"}, None)


def test_columns_of_unknown_fields_are_refused():
    with pytest.raises(PressError, match=r"columns.promt: no such field. There are"):
        check_columns({"promt": "question"}, None)
    with pytest.raises(PressError, match=r"columns.prompt: no such field. There are input, instruction"):
        check_columns({"prompt": "question"}, "alpaca")
    check_columns({"instruction": "question"}, "alpaca")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {"prompt": "p", "answer": "r"},
            "field 'response' is missing (found 'prompt', 'answer'). If it is 'answer', say",
        ),
        ({"question": "p", "answer": "r"}, "columns: {prompt: question}"),
        ({"text": "x"}, "a whole text does not say which part is the answer"),
        ({}, "field 'prompt' is missing (found no fields)"),
        ({"prompt": "\u200b", "response": "r"}, "field 'prompt' is empty"),
        ({"prompt": "p", "response": 3}, "field 'response' is a int"),
        ({"prompt": "p", "response": "r", "system": 3}, "field 'system' is a int"),
        ({"messages": "x"}, "field 'messages' is \"x\", expected a list of messages"),
        ({"messages": []}, "field 'messages' is [], expected a list"),
        ({"messages": [USER]}, "messages: the last one is the user's, expected an answer"),
        ({"messages": [ANSWER]}, "messages[0]: an answer, and nobody has asked"),
        ({"messages": [USER, ANSWER, ANSWER]}, "messages[2]: an answer, and it follows another"),
        ({"messages": [USER, SYSTEM, ANSWER]}, "messages[1]: a system message after others"),
        ({"messages": [USER, {"role": "robot", "content": "x"}]}, 'messages[1]: role "robot": expected system'),
        ({"messages": [USER, {**ANSWER, "role": ["assistant"]}]}, 'messages[1]: role ["assistant"]: expected system'),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content is a NoneType"),
        ({"messages": [USER, "x"]}, 'messages[1]: found "x", expected an object'),
        ({"messages": [{**USER, "content": [{"type": "image_url"}]}, ANSWER]}, "messages[0].content: a part"),
        ({"messages": [{**USER, "audio": {"id": "1"}}, ANSWER]}, "messages[0]: field 'audio' has no place"),
        ({"messages": [USER, {**ANSWER, "weight": 0}]}, "the last answer has weight 0"),
        ({"messages": [USER, {**ANSWER, "tool_calls": [{"name": 3}]}]}, "messages[1].tool_calls[0]: found"),
        (
            {"messages": [USER, {**ANSWER, "tool_calls": [{"name": "f", "arguments": "{"}]}]},
            "the arguments are no JSON",
        ),
        ({"messages": [USER, ANSWER], "tools": '[{"a":' + "[" * 500 + "]" * 500 + "}]"}, "nested more than 32 deep"),
        ({"messages": [USER, ANSWER], "tools": "[" * 200_000}, "field 'tools' is no JSON"),
        ({"messages": "[" * 200_000}, "expected a list of messages"),
        ({"messages": [USER, ANSWER], "tools": 3}, "field 'tools' is 3, expected a list"),
        ({"instruction": "x", "output": ""}, "field 'output' is empty"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, 'conversations[0]: from "alien": expected human'),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "conversations[0]: an answer, and nobody has asked"),
        ({"conversations": [{"from": "human"}]}, "expected an object with 'from' and 'value'"),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "'chosen' and 'rejected' are the same"),
        ({"prompt": "p", "chosen": "a", "rejected": ""}, "field 'rejected' is empty"),
        ({"chosen": "a", "rejected": "b"}, "field 'prompt' is missing"),
        ({"chosen": [USER, ANSWER], "rejected": [USER]}, "'rejected' is no single answer"),
    ],
)
def test_what_is_no_row_is_named(value, expected):
    assert expected in error(value)


def test_rows_of_another_format_than_the_first_are_named():
    reader = Reader()
    reader.read("x:1", {"instruction": "hi", "output": "hello"})
    with pytest.raises(BadRow, match=r"field 'instruction' is missing \(found 'prompt', 'response'\)"):
        reader.read("x:2", {"prompt": "hi", "response": "hello"})
