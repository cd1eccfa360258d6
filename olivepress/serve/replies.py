"""Answers in OpenAI's form: whole, or as events of a stream."""

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """The form of one answer: of a chat, or of a text that goes on; ``model`` as it was asked for."""

    model: str
    chat: bool
    with_usage: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, reason: str, usage: dict[str, int]) -> dict[str, Any]:
        """The answer in one piece."""
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {**self._head(False), "choices": [self._choice(said, reason)], "usage": usage}

    def first(self) -> bytes:
        """What comes before the first piece of a chat's stream."""
        return self._event({"delta": {"role": "assistant", "content": ""}}) if self.chat else b""

    def piece(self, text: str) -> bytes:
        """A piece of text."""
        return self._event({"delta": {"content": text}} if self.chat else {"text": text})

    def last(self, reason: str, usage: dict[str, int]) -> bytes:
        """Why it ended, the numbers of tokens if they were asked for, and the end of the stream."""
        ended = self._event({"delta": {}} if self.chat else {"text": ""}, reason)
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
