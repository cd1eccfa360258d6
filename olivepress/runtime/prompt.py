"""The text that a model sees for a prompt or a whole conversation, by the template that it was trained with."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from olivepress.core import control
from olivepress.core.errors import PressError
from olivepress.core.json_document import BadDocument, read_document
from olivepress.core.jsonl import BadRow, check_characters
from olivepress.core.template import render_prompt

if TYPE_CHECKING:
    import onnxruntime_genai as og

LARGEST_TOKENIZER = 128 * 2**20  # bytes; with a quarter of a million tokens it has 35 MB
ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    """One thing said: by whom ("system", "user", "assistant"), and what."""

    role: str
    content: str


def messages_of(prompt: str | Sequence[Message], system: str | None = None) -> list[Message]:
    """A prompt, or what was said so far and ends with the user's word, as messages, ``system`` first if there is one.

    Raises PressError for anything else: a role that is none, a content that is no text, a last word not the user's.
    """
    if isinstance(prompt, str):
        messages: list[Message] = [{"role": "user", "content": prompt}]
    elif isinstance(prompt, Sequence):
        messages = list(prompt)
    else:
        raise PressError(f"prompt: {prompt!r}: expected a text, or a list of messages.")
    if system is not None:
        messages = [{"role": "system", "content": system}, *messages]
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise PressError(f"messages[{place}]: {message!r}: expected {{'role': …, 'content': …}}.")
        if message["role"] not in ROLES or (message["role"] == "system" and place):
            expected = "user or assistant (system comes once, first)" if place else ", ".join(ROLES)
            raise PressError(f"messages[{place}]: role {message['role']!r}: expected {expected}.")
        if not isinstance(message["content"], str) or not message["content"].strip():
            raise PressError(f"messages[{place}]: content {message['content']!r}: expected a text that is not empty.")
        try:
            check_characters(message["content"], f"messages[{place}]")
        except BadRow as error:
            raise PressError(str(error)) from error
    if not messages or messages[-1]["role"] != "user":
        raise PressError("messages: the last one is not the user's: there is nothing to answer.")
    return messages


def control_tokens(folder: Path) -> re.Pattern[str] | None:
    """Finds the control tokens of the model in ``folder``, by its tokenizer.json; PressError if that is none."""
    return control.pattern_of(control_ids(folder).values())


def control_ids(folder: Path) -> dict[int, str]:
    """Id -> control token of the model in ``folder``, by its tokenizer.json; PressError if that is none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return {}
    try:
        added = read_document(path, LARGEST_TOKENIZER).get("added_tokens") or []
        return {token["id"]: token["content"] for token in added if token.get("special")}
    except (BadDocument, AttributeError, KeyError, TypeError) as error:
        raise PressError(
            f"{path}: is no tokenizer of the Hugging Face libraries ({error}). Export it again."
        ) from error


def refuse_control(messages: Sequence[Message], pattern: re.Pattern[str] | None) -> None:
    """PressError for a control token in what a message says: it would be a turn that nobody took."""
    for place, message in enumerate(messages):
        token = control.find(pattern, message["content"])
        if token:
            raise PressError(f"messages[{place}]: has {token!r}, a control token of the model. Take it out.")


def render_chat(tokenizer: "og.Tokenizer", messages: Sequence[Message]) -> str:
    """By the chat template that the tokenizer has; PressError if it fails, does not end (`render_bounded`), or leaves
    the system prompt out."""
    try:
        text = _render(tokenizer, json.dumps(messages))
    except RuntimeError as error:
        raise PressError(f"the model's chat template cannot render these messages: {error}") from error
    if messages[0]["role"] == "system" and messages[0]["content"].strip() not in text:
        raise PressError("the model's chat template has no place for a system prompt: put it into the user's words.")
    return text


def _render(tokenizer: "og.Tokenizer", messages: str) -> str:
    if not hasattr(os, "fork"):  # Windows
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    from olivepress.runtime.tokenizer_trial import render_bounded

    return render_bounded(tokenizer, messages)


def render_text(template: str, messages: Sequence[Message]) -> str:
    r"""By a text template: the turns before the last one each as a row was rendered, a line break after it.

    PressError for a system prompt, which such a template has no place for, and for turns out of turn.
    """
    if messages[0]["role"] == "system":
        raise PressError("the model's text template has no place for a system prompt: put it into the user's words.")
    if [message["role"] for message in messages[:-1]] != ["user", "assistant"] * (len(messages) // 2):
        raise PressError("messages: the model's text template wants the user's and the assistant's words in turn.")
    words = [message["content"] for message in messages]
    rows = [
        template.format(prompt=prompt, response=response)
        for prompt, response in zip(words[:-1:2], words[1::2], strict=True)
    ]
    earlier = "".join(row if row.endswith("\n") else f"{row}\n" for row in rows)
    return earlier + render_prompt(template, words[-1])
