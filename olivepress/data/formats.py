"""What a row of people's data means: the formats, told apart by their fields, as messages or as a preference."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from olivepress.core.errors import PressError
from olivepress.core.jsonl import BadRow, checked_text, has_words, parse_json

Message = dict[str, Any]
EMPTY = (None, "", [], {})
MOST_NAMES = 1000  # fields that are not used are counted by name, so many at most

Format = Literal["prompt-response", "messages", "alpaca", "sharegpt", "preference"]
FORMATS: tuple[str, ...] = get_args(Format)
# ShareGPT's names of who speaks, and others that are about.
SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "developer": "system",
}
# Other names that a field has in data sets that are about; `columns` says so.
ALIASES = {
    "prompt": ("question", "query", "input", "instruction", "Question", "user"),
    "response": ("answer", "completion", "output", "Answer", "target", "assistant", "chosen"),
    "messages": ("conversation", "conversations", "dialog", "dialogue", "chat"),
}
# What each format reads; the last ones may be missing.
FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "prompt-response": (("prompt", "response"), ("system",)),
    "messages": (("messages",), ("tools", "system")),
    "alpaca": (("instruction", "output"), ("input", "system")),
    "sharegpt": (("conversations",), ("tools", "system")),
    "preference": (("chosen", "rejected"), ("prompt", "system", "tools")),
}


@dataclass(frozen=True)
class Row:
    """A conversation that ends with the assistant's word, and where it came from (file:line)."""

    where: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class Pair:
    """A prompt (a conversation that ends before an answer) and two answers to it, the better one first."""

    where: str
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    tools: list[dict[str, Any]] | None = None


def row_of(prompt: str, response: str, where: str = "row") -> Row:
    """The row of one question and its answer."""
    return Row(where, [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}])


def detect(value: Mapping[str, Any]) -> str | None:
    """The format of a row by the names of its fields; None if none fits."""
    if "chosen" in value and "rejected" in value:
        return "preference"
    if "messages" in value:
        return "messages"
    if "conversations" in value:
        first = value["conversations"][:1] if isinstance(value["conversations"], list) else []
        return "sharegpt" if not first or (isinstance(first[0], dict) and "from" in first[0]) else "messages"
    if "instruction" in value and "output" in value:
        return "alpaca"
    return "prompt-response" if "prompt" in value or "response" in value else None


@dataclass
class Reader:
    """Reads rows of one file. ``columns`` maps our names of fields to the file's; ``format`` is found by the first row.

    ``unused`` counts the fields that nothing reads.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    unused: dict[str, int] = field(default_factory=dict)

    def read(self, where: str, value: dict[str, Any]) -> Row | Pair:
        """The row in ``value``; BadRow names what is wrong with it."""
        value = self._renamed(value)
        if self.format is None:
            self.format = detect(value)
            if self.format is None:
                raise BadRow(self._unknown(value))
        needed, optional = FIELDS[self.format]
        fields = {name: found for name, found in value.items() if name in (*needed, *optional)}
        if self.format == "messages" and "messages" not in value and "conversations" in value:
            fields["messages"] = value["conversations"]
            optional = (*optional, "conversations")
        for name, found in value.items():
            if name in (*needed, *optional) or found in EMPTY:
                continue
            if name in self.unused or len(self.unused) < MOST_NAMES:
                self.unused[name] = self.unused.get(name, 0) + 1
        missing = [name for name in needed if name not in fields]
        if missing:
            raise BadRow(
                f"field {missing[0]!r} is missing (found {_names(value)}). {self._hint(value, missing[0])}Add it or "
                "remove the line."
            )
        row = READERS[self.format](where, fields)
        return row

    def _renamed(self, value: dict[str, Any]) -> dict[str, Any]:
        if not self.columns:
            return value
        for ours, theirs in self.columns.items():
            if theirs not in value:
                raise BadRow(f"column {theirs!r} (columns.{ours}) is missing (found {_names(value)}).")
        taken = set(self.columns.values())
        rest = {name: found for name, found in value.items() if name not in taken and name not in self.columns}
        return rest | {ours: value[theirs] for ours, theirs in self.columns.items()}

    def _hint(self, value: Mapping[str, Any], missing: str) -> str:
        other = next((alias for alias in ALIASES.get(missing, ()) if alias in value), None)
        return f"If it is {other!r}, say so: columns: {{{missing}: {other}}}. " if other else ""

    def _unknown(self, value: Mapping[str, Any]) -> str:
        if set(value) <= {"text", "id"} and "text" in value:
            return (
                "field 'prompt' is missing (found 'text'): a whole text does not say which part is the answer. If it "
                "was rendered by a template, give what it was rendered from."
            )
        hints = "".join(filter(None, (self._hint(value, name) for name in ("prompt", "response", "messages"))))
        return (
            f"field 'prompt' is missing (found {_names(value)}): no format of rows that is known "
            f"({', '.join(FORMATS)}). {hints}Name the fields by columns."
        )


def _names(value: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, list(value)[:20])) or "no fields"


def _system(fields: dict[str, Any]) -> list[Message]:
    if fields.get("system") in (None, ""):
        return []
    return [{"role": "system", "content": checked_text(fields, "system")}]


def _prompt_response(where: str, fields: dict[str, Any]) -> Row:
    prompt, response = (checked_text(fields, name) for name in ("prompt", "response"))
    row = row_of(prompt, response, where)
    return Row(where, [*_system(fields), *row.messages])


def _alpaca(where: str, fields: dict[str, Any]) -> Row:
    """Stanford Alpaca's: the input, if there is one, stands below the instruction."""
    prompt = checked_text(fields, "instruction")
    if fields.get("input") not in (None, ""):
        prompt = f"{prompt}\n\n{checked_text(fields, 'input')}"
    row = row_of(prompt, checked_text(fields, "output"), where)
    return Row(where, [*_system(fields), *row.messages])


def _chat(where: str, fields: dict[str, Any]) -> Row:
    """OpenAI's: messages of role and content, tool calls included."""
    messages = [*_system(fields), *_messages(fields["messages"], "messages")]
    _in_turn(messages, "messages")
    return Row(where, _ending_in_answer(messages, "messages"), _tools(fields))


def _sharegpt(where: str, fields: dict[str, Any]) -> Row:
    turns = _list(fields["conversations"], "conversations")
    messages = []
    for place, turn in enumerate(turns):
        name = f"conversations[{place}]"
        if not isinstance(turn, dict) or not {"from", "value"} <= turn.keys():
            raise BadRow(f"{name}: found {_short(turn)}, expected an object with 'from' and 'value'.")
        speaker = turn["from"] if isinstance(turn["from"], str) else ""
        if speaker.lower() not in SPEAKERS:
            raise BadRow(f"{name}: from {_short(turn['from'])}: expected {', '.join(SPEAKERS)}.")
        rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
        _no_others(rest, KNOWN - {"role", "content"}, name)
        messages.append(_message({**rest, "role": SPEAKERS[speaker.lower()], "content": turn["value"]}, name, "value"))
    messages = [*_system(fields), *messages]
    _in_turn(messages, "conversations")
    return Row(where, _ending_in_answer(messages, "conversations"), _tools(fields))


def _preference(where: str, fields: dict[str, Any]) -> Pair:
    """Two answers to a prompt: texts, or chats that begin alike (trl's formats, with and without a prompt)."""
    prompt = fields.get("prompt")
    if isinstance(fields["chosen"], str) or isinstance(fields["rejected"], str):
        said = checked_text(fields, "prompt")
        before: list[Message] = [{"role": "user", "content": said}]
        chosen, rejected = (
            [{"role": "assistant", "content": checked_text(fields, name)}] for name in ("chosen", "rejected")
        )
    else:
        chosen, rejected = (_messages(fields[name], name) for name in ("chosen", "rejected"))
        if isinstance(prompt, list):
            before = _messages(prompt, "prompt")
        else:  # in each of the chats; a text beside them says it once more
            common = 0
            while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
                common += 1
            before, chosen, rejected = chosen[:common], chosen[common:], rejected[common:]
            if prompt not in (None, ""):
                said = checked_text(fields, "prompt")
                if before and not any(said.strip() in message["content"] for message in before):
                    raise BadRow("field 'prompt' says other than what 'chosen' and 'rejected' begin with. Keep one.")
                before = before or [{"role": "user", "content": said}]
    if _alike(chosen, rejected):
        raise BadRow("'chosen' and 'rejected' are the same. Remove the row.")
    before = [*_system(fields), *before]
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if len(answer) != 1 or answer[0]["role"] != "assistant":
            raise BadRow(f"{name!r} is no single answer of the assistant to the prompt that both share.")
        if "weight" in answer[0]:
            raise BadRow(f"{name!r} has weight 0: a preference is trained on whole. Remove the weight, or the row.")
        _in_turn([*before, *answer], name)
    return Pair(where, before, chosen, rejected, _tools(fields))


def _alike(chosen: list[Message], rejected: list[Message]) -> bool:
    """Whether two answers are the same but for blanks around them."""
    one, other = (
        [{**message, "content": message["content"].strip()} for message in each] for each in (chosen, rejected)
    )
    return one == other


READERS: dict[str, Callable[[str, dict[str, Any]], Row | Pair]] = {
    "prompt-response": _prompt_response,
    "messages": _chat,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "preference": _preference,
}

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
KNOWN = {"role", "content", "name", "tool_calls", "tool_call_id", "weight", "refusal", "reasoning_content", "thinking"}


def _messages(value: Any, name: str) -> list[Message]:
    return [_message(message, f"{name}[{place}]") for place, message in enumerate(_list(value, name))]


def _list(value: Any, name: str) -> list[Any]:
    why = ""
    if isinstance(value, str):  # CSV and Parquet have lists as JSON
        try:
            value = parse_json(value)
        except BadRow as error:
            why = f" ({str(error).rstrip('.')})"
    if not isinstance(value, list) or not value:
        raise BadRow(f"field {name!r} is {_short(value)}, expected a list of messages{why}.")
    return value


def _message(value: Any, name: str, content_name: str = "content") -> Message:
    if not isinstance(value, dict):
        raise BadRow(f"{name}: found {_short(value)}, expected an object with 'role' and 'content'.")
    role = value.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise BadRow(f"{name}: role {_short(role)}: expected {', '.join(ROLES)}.")
    _no_others(value, KNOWN, name)
    found: Message = {"role": ROLES[role]}
    content = value.get("content")
    if isinstance(content, list):
        content = _parts(content, name)
    calls = value.get("tool_calls")
    if calls and role != "assistant":
        raise BadRow(f"{name}: tool_calls of the {role}'s, expected them of the assistant's.")
    if calls:
        found["tool_calls"] = [_call(call, f"{name}.tool_calls[{place}]") for place, call in enumerate(_list_of(calls))]
    if content in (None, "") and calls and role == "assistant":
        found["content"] = ""
    else:
        found["content"] = checked_text({"content": content}, "content", f"{name}.{content_name}")
    for key in ("name", "tool_call_id", "reasoning_content", "thinking"):
        if isinstance(value.get(key), str):
            found[key] = value[key]
        elif value.get(key) not in EMPTY:
            raise BadRow(f"{name}: {key} {_short(value[key])}: expected a text.")
    if value.get("weight") not in (None, 0, 1):
        raise BadRow(f"{name}: weight {_short(value['weight'])}: expected 0 (not trained on) or 1.")
    if role == "assistant" and value.get("weight") == 0:
        found["weight"] = 0
    return found


def _no_others(value: dict[str, Any], known: set[str], name: str) -> None:
    """BadRow for a field that would be dropped."""
    unknown = next((key for key in value if key not in known and value[key] not in EMPTY), None)
    if unknown is not None:
        raise BadRow(f"{name}: field {unknown[:80]!r} has no place in a message of text. Remove it.")


def _parts(content: list[Any], name: str) -> str:
    """OpenAI's list of parts as one text; BadRow for an image or a sound."""
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in ("text", "input_text", "output_text"):
            raise BadRow(f"{name}.content: a part {_short(part)}, expected texts only.")
        texts.append(checked_text(part, "text", f"{name}.content"))
    return "\n".join(texts)


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


DEEPEST = 32


def _shallow(value: Any, name: str) -> Any:
    """``value``, if lists and objects in it are not nested so deep that no template could write them."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise BadRow(f"{name}: nested more than {DEEPEST} deep.")
        inner = [one for one in level if isinstance(one, (dict, list))]
        level = [part for one in inner for part in (one.values() if isinstance(one, dict) else one)]
    return value


def _call(call: Any, name: str) -> dict[str, Any]:
    """A tool call with its arguments as an object, as templates take it (OpenAI has them as JSON in a text)."""
    function = call.get("function", call) if isinstance(call, dict) else None
    called = function.get("name") if isinstance(function, dict) else None
    if not isinstance(called, str) or not has_words(called):
        raise BadRow(f"{name}: found {_short(call)}, expected a function with a name and arguments.")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = parse_json(arguments)
        except BadRow as error:
            raise BadRow(f"{name}: the arguments are no JSON: {_short(arguments)}: {error}") from error
    found = {"type": "function", "function": {"name": called, "arguments": _shallow(arguments, name)}}
    return found | ({"id": call["id"]} if isinstance(call.get("id"), str) else {})


def _tools(fields: dict[str, Any]) -> list[dict[str, Any]] | None:
    tools = fields.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = parse_json(tools)
        except BadRow as error:
            raise BadRow(f"field 'tools' is no JSON: {_short(tools)}: {error}") from error
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRow(f"field 'tools' is {_short(tools)}, expected a list of objects.")
    for place, tool in enumerate(_shallow(tools, "field 'tools'")):
        function = tool.get("function", tool)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRow(f"tools[{place}]: found {_short(tool)}, expected a function with a name.")
    return tools


def _in_turn(messages: list[Message], name: str) -> None:
    """BadRow unless system comes once and first, somebody asks, tools are called, and no answer follows another."""
    for place, message in enumerate(messages):
        before = messages[place - 1]["role"] if place else None
        if message["role"] == "system" and place:
            raise BadRow(f"{name}[{place}]: a system message after others. It comes once, first.")
        if message["role"] == "tool" and before not in ("assistant", "tool"):
            raise BadRow(f"{name}[{place}]: what a tool said, and the assistant has not called one before it.")
        if message["role"] == "assistant" and before in (None, "system", "assistant"):
            what = "nobody has asked" if before != "assistant" else "it follows another of the assistant's"
            raise BadRow(f"{name}[{place}]: an answer, and {what}. Join or remove messages.")


def _ending_in_answer(messages: list[Message], name: str) -> list[Message]:
    if messages[-1]["role"] != "assistant":
        raise BadRow(f"{name}: the last one is the {messages[-1]['role']}'s, expected an answer of the assistant's.")
    if messages[-1].get("weight") == 0:
        raise BadRow(f"{name}: the last answer has weight 0. End the row with an answer that is trained on.")
    return messages


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:59]}…"


def check_columns(columns: Mapping[str, str], format: str | None) -> None:
    """PressError unless ``columns`` rename fields that the format has, each to a column of its own."""
    known = {
        name for fmt, (needed, optional) in FIELDS.items() if format in (None, fmt) for name in (*needed, *optional)
    }
    for ours in columns:
        if ours not in known:
            raise PressError(f"columns.{ours}: no such field. There are {', '.join(sorted(known))}.")
    twice = next((theirs for theirs, count in Counter(columns.values()).items() if count > 1), None)
    if twice is not None:
        raise PressError(f"columns: {twice!r} is there twice: each field of ours is a column of its own.")
