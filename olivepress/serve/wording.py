"""A model's words: what it reads for a prompt, by the template and the tokens of `runtime.genai.Model`; no weights."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError
from olivepress.runtime.genai import encode, load_model
from olivepress.runtime.graphs import Graph
from olivepress.runtime.prompt import (
    Message,
    control_tokens,
    messages_of,
    refuse_control,
    render_chat,
    render_text,
)

if TYPE_CHECKING:
    import llguidance
    import onnxruntime_genai as og


class Wording:
    """Template and tokenizer of the model in ``folder``; ``config`` is its checked genai_config.json.

    GenAI makes a tokenizer of a loaded model only. The model is let go again: the weights that answer are the engine's.
    ``template``: "chat", or the text template that it was trained with. May be called from several threads.
    """

    def __init__(self, folder: Path, config: dict[str, Any], graph: Graph, template: str) -> None:
        import onnxruntime_genai as og

        try:
            model = load_model(folder, config, graph)
            if hasattr(os, "fork"):
                from olivepress.runtime.tokenizer_trial import try_tokenizer

                try_tokenizer(model, folder)
            self._tokenizer = og.Tokenizer(model)
        except RuntimeError as error:
            raise PressError(f"{folder}: ONNX Runtime GenAI cannot load it: {error}") from error
        self._lock = Lock()
        self._template = template
        self._control = control_tokens(folder)
        self._guide: llguidance.LLTokenizer | None = None
        self._folder = folder
        self.vocabulary: int = config["model"]["vocab_size"]
        self.ends: frozenset[int] = frozenset(self._tokenizer.eos_token_ids.tolist())

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, up to where its answer begins; PressError for what no template could render."""
        messages = messages_of(messages)
        refuse_control(messages, self._control)
        with self._lock:
            if self._template == "chat":
                text = render_chat(self._tokenizer, messages)
            else:
                text = render_text(self._template, messages)
            return self._encode(text)

    def text(self, prompt: str) -> list[int]:
        """Token ids of a text as it is, without a template; PressError if it is empty or has a control token."""
        refuse_control(messages_of(prompt), self._control)
        with self._lock:
            return self._encode(prompt)

    def _encode(self, text: str) -> list[int]:
        return encode(self._tokenizer, text, self.vocabulary, self._folder).tolist()

    def stream(self) -> "og.TokenizerStream":
        """Makes text of tokens, one after another."""
        with self._lock:
            return self._tokenizer.create_stream()

    def by_schema(self, schema: dict[str, Any]) -> "llguidance.LLMatcher":
        """What keeps an answer to a JSON schema; PressError for a schema that llguidance has no grammar for."""
        import llguidance

        # a small model, free to write white space between two marks, writes nothing else
        strict = {"whitespace_flexible": False}
        try:
            return self._matcher(llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=strict))
        except (ValueError, TypeError) as error:
            raise PressError(f"the schema cannot be followed: {error}") from error

    def by_grammar(self, grammar: str) -> "llguidance.LLMatcher":
        """What keeps an answer to a grammar in Lark's notation; PressError for a schema in it that has no grammar."""
        import llguidance

        return self._matcher(llguidance.LLMatcher.grammar_from_lark(grammar))

    def _matcher(self, grammar: str) -> "llguidance.LLMatcher":
        """The same library as behind GenAI's `set_guidance`, which is for a generator, so for one answer at a time."""
        import llguidance

        with self._lock:
            if self._guide is None:
                tokenizer = (self._folder / "tokenizer.json").read_text(encoding="utf-8")
                self._guide = llguidance.LLTokenizer(tokenizer, n_vocab=self.vocabulary, eos_token=sorted(self.ends))
        matcher = llguidance.LLMatcher(self._guide, grammar, log_level=0)
        if matcher.is_error():
            raise PressError(f"the schema cannot be followed: {matcher.get_error()}")
        return matcher
