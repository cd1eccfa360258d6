"""Functions that a client offers: calls by their schemas, and what they returned."""

import json
import re

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olivepress.serve.requests import ChatRequest, read_body
from olivepress.serve.tools import may_be_call, read_call, told

NAME = "ft-for-travel"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
DAYS = ["monday", "tuesday"]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a day",
        "parameters": {
            "type": "object",
            "properties": {"day": {"enum": DAYS}, "hours": {"type": "integer", "minimum": 0, "maximum": 23}},
            "required": ["day", "hours"],
            "additionalProperties": False,
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


@pytest.fixture(scope="module")
def client(server):
    return server.client()


def check_weather(call) -> None:
    assert call.type == "function"
    assert re.fullmatch(r"call_[0-9a-f]{32}", call.id)
    assert call.function.name == "weather"
    found = json.loads(call.function.arguments)
    assert list(found) == ["day", "hours"]
    assert found["day"] in DAYS
    assert found["hours"] in range(24)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=str)
@pytest.mark.parametrize("model", [NAME, f"{NAME}:cooking"])
def test_a_call_that_has_to_be_is_one_by_the_schema(client, choice, model):
    tools = [WEATHER] if choice == "required" else [CLOCK, WEATHER]
    found = client.chat.completions.create(
        model=model, messages=QUESTION, tools=tools, tool_choice=choice, parallel_tool_calls=False
    )
    choice = found.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    check_weather(call)


def test_the_named_function_is_called_and_no_other(client):
    for name in ("clock", "weather"):
        found = client.chat.completions.create(
            model=NAME,
            messages=QUESTION,
            tools=[WEATHER, CLOCK],
            tool_choice={"type": "function", "function": {"name": name}},
        )
        assert [call.function.name for call in found.choices[0].message.tool_calls] == [name]
    assert read_call('<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>')["function"]["arguments"] == "{}"


def test_a_stream_has_the_call_in_one_piece(client):
    chunks = list(
        client.chat.completions.create(
            model=NAME, messages=QUESTION, tools=[WEATHER], tool_choice="required", stream=True
        )
    )
    assert not any(chunk.choices[0].delta.content for chunk in chunks)
    (call,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert call.index == 0
    check_weather(call)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_left_to_the_model_it_is_text_or_a_call(client):
    """The tiny model knows no tools and answers in words; whole and streamed alike."""
    asked = {"model": NAME, "messages": QUESTION, "tools": [WEATHER], "max_tokens": 24}
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.finish_reason in ("stop", "length")
    assert whole.message.tool_calls is None
    assert whole.message.content
    assert not may_be_call(whole.message.content)
    stream = client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole.message.content


def test_no_tools_by_choice_is_as_if_there_were_none(client):
    plain = client.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=24)
    none = client.chat.completions.create(
        model=NAME, messages=QUESTION, max_tokens=24, tools=[WEATHER], tool_choice="none"
    )
    assert none.choices[0].message.content == plain.choices[0].message.content
    assert none.usage == plain.usage


def test_a_conversation_goes_on_after_a_call(client):
    first = client.chat.completions.create(
        model=NAME, messages=QUESTION, tools=[WEATHER], tool_choice="required", max_tokens=120
    )
    first = first.choices[0].message
    asked = {"model": NAME, "tools": [CLOCK], "max_tokens": 24}
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "It rains."}
    found = client.chat.completions.create(**asked, messages=[*QUESTION, first, result])
    assert found.choices[0].message.content
    with pytest.raises(openai.BadRequestError, match="no such call"):
        client.chat.completions.create(**asked, messages=[*QUESTION, first, {**result, "tool_call_id": "other"}])


def test_a_call_that_is_cut_off_is_text(client):
    found = client.chat.completions.create(
        model=NAME, messages=QUESTION, tools=[WEATHER], tool_choice="required", max_tokens=3
    ).choices[0]
    assert found.finish_reason == "length"
    assert found.message.tool_calls is None


def request(**values) -> ChatRequest:
    return read_body(ChatRequest, json.dumps({"model": NAME, **values}).encode())


def test_what_the_model_is_told():
    calls = [
        {"id": number, "type": "function", "function": {"name": "weather", "arguments": f'{{"day": "{day}"}}'}}
        for number, day in zip("ab", DAYS, strict=True)
    ]
    asked = request(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Will it rain?"},
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": "b", "content": "no"},
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "yes"}]},
        ],
        tools=[WEATHER, CLOCK],
    )
    system, user, assistant, results = told(asked.messages, asked.functions_offered)
    assert system["role"] == "system"
    assert system["content"].startswith("Be brief.\n\nYou can call functions.")
    lines = system["content"].split("<tools>\n")[1].split("\n</tools>")[0].splitlines()
    assert [json.loads(line) for line in lines] == [WEATHER["function"], CLOCK["function"]]
    assert user == {"role": "user", "content": "Will it rain?"}
    assert assistant["content"] == (
        '<tool_call>\n{"name": "weather", "arguments": {"day": "monday"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {"day": "tuesday"}}\n</tool_call>'
    )
    assert results == {
        "role": "user",
        "content": "<tool_response>\nno\n</tool_response>\n<tool_response>\nyes\n</tool_response>",
    }


SCHEMAS = st.recursive(
    st.sampled_from([{"type": kind} for kind in ("string", "integer", "boolean", "null")]),
    lambda inner: st.builds(
        lambda properties: {"type": "object", "properties": properties, "required": list(properties)},
        st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=2),
    ),
    max_leaves=3,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(parameters=SCHEMAS, choice=st.sampled_from(["required", "auto"]))
def test_whatever_the_schema_the_server_answers(client, parameters, choice):
    function = {"name": "f", "parameters": {"type": "object", "properties": {"x": parameters}, "required": ["x"]}}
    found = client.chat.completions.create(
        model=NAME,
        messages=QUESTION,
        tools=[{"type": "function", "function": function}],
        tool_choice=choice,
        max_tokens=40,
    ).choices[0]
    if found.finish_reason == "tool_calls":
        assert "x" in json.loads(found.message.tool_calls[0].function.arguments)
