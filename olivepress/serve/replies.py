"""Answers in OpenAI's form: whole, or as events of a stream."""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from olivepress.serve.tools import may_be_call, read_call

CALLED = "tool_calls"  # OpenAI's reason for the end of an answer that is a call


@dataclass(frozen=True)
class Reply:
    """The form of one answer: of a chat, or of a text that goes on; ``model`` as it was asked for.

    ``tools``: whether it may be a call of a function.
    """

    model: str
    chat: bool
    with_usage: bool
    tools: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, reason: str, usage: dict[str, int]) -> dict[str, Any]:
        """The answer in one piece."""
        call = read_call(text) if self.tools else None
        if call:
            said = {"message": {"role": "assistant", "content": None, "tool_calls": [call]}}
            reason = CALLED
        else:
            said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {**self._head(False), "choices": [self._choice(said, reason)], "usage": usage}

    def waits(self, text: str) -> bool:
        """Whether ``text``, the answer so far, is kept back, since it is a call or may become one."""
        return self.tools and may_be_call(text)

    def first(self) -> bytes:
        """What comes before the first piece of a chat's stream."""
        return self._event({"delta": {"role": "assistant", "content": ""}}) if self.chat else b""

    def piece(self, text: str) -> bytes:
        """A piece of text."""
        return self._event({"delta": {"content": text}} if self.chat else {"text": text})

    def last(self, kept: str, reason: str, usage: dict[str, int]) -> bytes:
        """What was ``kept`` back, why it ended, the numbers of tokens if they were asked for, the end of the stream."""
        call = read_call(kept) if kept else None
        if call:
            before, reason = self._event({"delta": {"tool_calls": [{"index": 0, **call}]}}), CALLED
        else:
            before = self.piece(kept) if kept else b""
        ended = before + self._event({"delta": {}} if self.chat else {"text": ""}, reason)
        numbers = event({**self._head(True), "choices": [], "usage": usage}) if self.with_usage else b""
        return ended + numbers + b"data: [DONE]\n\n"

    def _event(self, said: dict[str, Any], reason: str | None = None) -> bytes:
        usage = {"usage": None} if self.with_usage else {}
        return event({**self._head(True), "choices": [self._choice(said, reason)], **usage})

    def _head(self, streamed: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if streamed else "chat.completion") if self.chat else "text_completion"
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.model}

    def _choice(self, said: dict[str, Any], reason: str | None) -> dict[str, Any]:
        return {"index": 0, **said, "logprobs": None, "finish_reason": reason}


def usage(prompt: int, answer: int) -> dict[str, int]:
    """Numbers of tokens; the answer's include the one that ended it."""
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


def event(value: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"
