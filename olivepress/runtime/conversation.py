"""A conversation: what was said so far goes along with every prompt."""

from collections.abc import Callable, Iterator
from typing import Any

from olivepress.runtime.genai import Answer, Model
from olivepress.runtime.prompt import Message


class Conversation:
    """Talk to a model, which remembers what was said. ``adapter`` and ``system`` may be changed between two turns.

    ``messages`` is what was said so far, without the system prompt. A turn that fails, or whose stream is not read to
    its end, leaves it as it was.
    """

    def __init__(self, model: Model, adapter: str | None = None, *, system: str | None = None) -> None:
        self.model = model
        self.adapter = adapter
        self.system = system
        self.messages: list[Message] = []

    def say(self, text: str, *, on_text: Callable[[str], None] = lambda text: None, **options: Any) -> Answer:
        """The model's answer to ``text`` after all that came before; ``options`` as `Model.answer` takes them."""
        prompt = [*self.messages, Message(role="user", content=text)]
        answer = self.model.answer(prompt, self.adapter, system=self.system, on_text=on_text, **options)
        self._remember(prompt, answer.text)
        return answer

    def stream(self, text: str, **options: Any) -> Iterator[str]:
        """The same, in pieces as they come."""
        prompt = [*self.messages, Message(role="user", content=text)]
        pieces = self.model.stream(prompt, self.adapter, system=self.system, **options)

        def remembered() -> Iterator[str]:
            said = ""
            for piece in pieces:
                said += piece
                yield piece
            self._remember(prompt, said)

        return remembered()

    def reset(self) -> None:
        """Forget what was said; adapter and system prompt stay."""
        self.messages = []

    def _remember(self, prompt: list[Message], answer: str) -> None:
        # an answer without a word is no message that a template could render: the turn is forgotten
        self.messages = [*prompt, Message(role="assistant", content=answer)] if answer.strip() else self.messages
