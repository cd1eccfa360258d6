"""Functions that a client offers: how a model is told of them, how it calls one, and how it is told the result.

OpenAI's API says what goes over the wire, not what a model reads. Few small models' chat templates have a place for
tools, and those that do differ; so all models are told in the one form that most were trained on (Hermes, Qwen): a
system message with a function a line, a call between CALL and its end, a result between RESULT and its end. A grammar
lets an answer that begins with CALL be nothing but a call with arguments by the function's schema.
"""

import json
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from olivepress.runtime.prompt import Message as Said
from olivepress.serve.errors import ApiError

if TYPE_CHECKING:
    from olivepress.serve.requests import Function, Message

CALL, CALL_END = "<tool_call>", "</tool_call>"
RESULT, RESULT_END = "<tool_response>", "</tool_response>"
TOLD = f"""You can call functions. A line between <tools> and </tools> describes one; its parameters are a JSON schema.
<tools>
%s
</tools>
To call one, answer with its name and its arguments and nothing else, in this form:
{CALL}
{{"name": "a function's name", "arguments": {{"a parameter": "its value"}}}}
{CALL_END}
What it returns then comes between {RESULT} and {RESULT_END}."""
NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
# as Python writes JSON, and so as models saw it; free to write white space, a small model writes nothing else
SPELLING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def told(messages: Sequence["Message"], functions: Sequence["Function"]) -> list[Said]:
    """The conversation in words alone, ``functions`` in its system message; ApiError for a result of no call."""
    said: list[Said] = []
    open_calls: set[str] = set()
    before = None
    for place, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in open_calls:
                where = f"messages.{place}.tool_call_id"
                raise ApiError(400, f"{where}: the message before has no such call.", "invalid_value", where)
            open_calls.remove(message.tool_call_id)
            words = f"{RESULT}\n{message.words}\n{RESULT_END}"
            if before == "tool":
                said[-1]["content"] += f"\n{words}"
            else:
                said.append(Said(role="user", content=words))
        else:
            open_calls = {call.id for call in message.tool_calls or ()}
            calls = [_call(call.function.name, call.function.values) for call in message.tool_calls or ()]
            role = "system" if message.role == "developer" else message.role
            said.append(Said(role=role, content="\n".join(filter(None, [message.words, *calls]))))
        before = message.role
    if functions:
        lines = [json.dumps(function.description_for_model, ensure_ascii=False) for function in functions]
        words = TOLD % "\n".join(lines)
        if said[0]["role"] == "system":
            said[0]["content"] += f"\n\n{words}"
        else:
            said.insert(0, Said(role="system", content=words))
    return said


def grammar(functions: Sequence["Function"], *, must: bool) -> str:
    """For llguidance, in Lark's notation: a call of one of the ``functions`` or, unless it ``must`` be one, text."""
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": function.name}, "arguments": function.parameters or NO_ARGUMENTS},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for function in functions
    ]
    schema = json.dumps({"x-guidance": SPELLING, "anyOf": calls})
    call = f'call: "{CALL}\\n" %json {schema} "\\n{CALL_END}"\n'
    if must:
        return f"start: call\n{call}"
    return f"start: call | TEXT\nTEXT: /(.|\\n)*/ & ~/{CALL}(.|\\n)*/\n{call}"


def may_be_call(text: str) -> bool:
    """Whether an answer that begins with ``text`` is a call, or may become one."""
    return text.startswith(CALL) or CALL.startswith(text)


def read_call(text: str) -> dict[str, Any] | None:
    """OpenAI's form of the call that an answer is; None for text, and for a call that was cut off."""
    if not (text.startswith(CALL) and text.endswith(CALL_END)):
        return None
    found = json.loads(text.removeprefix(CALL).removesuffix(CALL_END))
    arguments = json.dumps(found["arguments"], ensure_ascii=False)
    function = {"name": found["name"], "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function}


def _call(name: str, arguments: dict[str, Any]) -> str:
    return f"{CALL}\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n{CALL_END}"
