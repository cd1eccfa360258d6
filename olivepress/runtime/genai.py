"""Answers from an exported model through onnxruntime_genai, the runtime that users have. No torch."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.artifact import OPERATORS
from olivepress.core.errors import PressError
from olivepress.core.extras import extra
from olivepress.runtime import unproved, webgpu
from olivepress.runtime.graphs import SWITCH, Graph, choose
from olivepress.runtime.prompt import (
    Message,
    control_ids,
    control_tokens,
    messages_of,
    refuse_control,
    render_chat,
    render_text,
)
from olivepress.runtime.sampling import Sampling, StopText
from olivepress.runtime.threads import thread_limit
from olivepress.runtime.trust import options_of, providers, read_genai_config

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime_genai as og

Prompt = str | Sequence[Message]
MARK = "ANSWER"


@dataclass
class Answer:
    """What one prompt gave: text and token ids (quality), and seconds (cost; the first one is the prompt's).

    ``ended``: why there is no more of it: "end" (the model ended it), "stop" (a stop text), "length"
    (max_new_tokens, or the context is full). ``finite``: whether the first and the last logits were.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    seconds_per_token: list[float] = field(default_factory=list)
    finite: bool = True
    ended: str = "length"


@dataclass(frozen=True)
class _Loaded:
    """GenAI's model, and the adapters that it has loaded."""

    model: "og.Model"
    adapters: "og.Adapters"


class Model:
    """An exported model with its adapters, loaded once; what `olivepress.load` returns.

    Every answer has a generator of its own, whose adapter is set before the prompt is read and never changed: with CUDA
    graphs on (the default of a CUDA target) the first decoding step is captured with the adapter that is active then,
    and one set later would not be seen. Answers with different adapters may follow each other in any order.

    ``adapters`` maps a name to its file. ``template``: "chat", or the text template that it was trained with.
    ``graph``: which one of the folder's, as `graphs.choose` takes it; `self.graph` is what was taken, and why. Raises
    PressError if the folder is no model or an adapter does not load.

    A prompt is a text, or the messages of a conversation that ends with the user's: a list of
    ``{"role": "user" or "assistant", "content": …}``, and "system" as the first. ``adapter`` is one of ``adapters``,
    None for the base alone. Further keywords are the options of `Sampling`: temperature, max_new_tokens, stop, …
    """

    def __init__(
        self, model_folder: Path, adapters: dict[str, Path], *, template: str, graph: str | None = None
    ) -> None:
        config = read_genai_config(model_folder)
        self.graph = choose(model_folder, graph)
        with extra("runtime"):
            import onnxruntime_genai as og

            start = time.perf_counter()
            self.folder, self._config, self._files = model_folder, config, adapters
            self._loaded = self._load()
            self._without_graphs: _Loaded | None = None
            if hasattr(os, "fork"):
                from olivepress.runtime.tokenizer_trial import try_tokenizer

                try_tokenizer(self._loaded.model, model_folder)
            try:
                self.tokenizer = og.Tokenizer(self._loaded.model)
            except RuntimeError as error:
                raise PressError(f"{model_folder}: ONNX Runtime GenAI cannot load it: {error}") from error
        self.load_seconds = time.perf_counter() - start
        self._piece = webgpu.piece() if _asks_for(config, "webgpu") else None
        self._control = control_tokens(model_folder)
        self._control_ids = control_ids(model_folder)
        self.adapters = tuple(adapters)
        self._eos = set(self.tokenizer.eos_token_ids.tolist())
        self._pad: int = config["model"]["pad_token_id"]
        self._template = template
        self.context_length: int = config["model"]["context_length"]
        self.vocabulary: int = config["model"]["vocab_size"]

    def _load(self, *, cuda_graph: bool = True) -> "_Loaded":
        import onnxruntime_genai as og

        try:
            model = load_model(self.folder, self._config, self.graph, cuda_graph=cuda_graph)
        except RuntimeError as error:
            other = f" {SWITCH}=portable loads the other graph." if self.graph.file == OPERATORS else ""
            raise PressError(f"{self.folder}: ONNX Runtime GenAI cannot load it: {error}{other}") from error
        adapters = og.Adapters(model)
        for name, path in self._files.items():
            try:
                adapters.load(str(path), name)
            except RuntimeError as error:
                raise PressError(f"{path}: ONNX Runtime GenAI cannot load it: {error}") from error
        return _Loaded(model, adapters)

    def _loaded_for(self, rows: int) -> "_Loaded":
        """What computes so many rows at a time.

        With CUDA graphs on GenAI widens a prompt's attention mask to the longest text that is asked for, and ONNX
        Runtime's attention takes that of one row alone ("batch_size must be 1 when sequence_length > 1 and past context
        is given"). Several rows are computed by the same model without graphs, which is loaded when it is first needed.
        """
        if rows == 1 or not captures_cuda_graphs(self._config):
            return self._loaded
        self._without_graphs = self._without_graphs or self._load(cuda_graph=False)
        return self._without_graphs

    def render(self, prompt: Prompt, *, system: str | None = None) -> str:
        """The text that the model sees, up to where its answer begins; PressError for control tokens in a message."""
        messages = messages_of(prompt, system)
        refuse_control(messages, self._control)
        if self._template == "chat":
            return render_chat(self.tokenizer, messages)
        return render_text(self._template, messages)

    def encode(self, text: str) -> "np.ndarray":
        """As of `encode`."""
        return encode(self.tokenizer, text, self.vocabulary, self.folder)

    def answer(
        self,
        prompt: Prompt,
        adapter: str | None = None,
        *,
        system: str | None = None,
        on_text: Callable[[str], None] = lambda text: None,
        **options: Any,
    ) -> Answer:
        """The whole answer; ``on_text`` gets each piece of it as it comes."""
        answer = Answer()
        for piece in self._decoded(prompt, adapter, system, Sampling.of(options), answer):
            on_text(piece)
        return answer

    def ran_on(self, answer: Answer) -> str | None:
        """The control token that an answer goes on after: what the chat template writes between an answer and the next
        question is in it, and does not end it. None for one that ends where it should, or is cut short."""
        if self._template != "chat":
            return None
        said = (("user", "Q"), ("assistant", MARK), ("user", "Q"))
        try:
            text = render_chat(self.tokenizer, [Message(role=role, content=content) for role, content in said])
        except PressError:
            return None
        between = set(self.tokenizer.encode(text.rpartition(MARK)[2]).tolist()) & self._control_ids.keys()
        found = next((token for token in answer.tokens if token in between - self._eos), None)
        return None if found is None else self._control_ids[found]

    def stream(
        self, prompt: Prompt, adapter: str | None = None, *, system: str | None = None, **options: Any
    ) -> Iterator[str]:
        """The answer's text in pieces, as they come. What is wrong with the input is raised at once, by the call."""
        answer = Answer()
        return self._finite(self._decoded(prompt, adapter, system, Sampling.of(options), answer), answer)

    def answers(
        self,
        prompts: Sequence[Prompt],
        adapter: str | None = None,
        *,
        system: str | None = None,
        batch_size: int = 1,
        **options: Any,
    ) -> list[Answer]:
        """An answer for each prompt, in order, ``batch_size`` of them computed at a time.

        Batches are faster, but round otherwise than one prompt alone: where two tokens are nearly as likely, an answer
        can differ from the one that `answer` gives.
        """
        if batch_size < 1:
            raise PressError(f"batch_size: {batch_size!r}: expected a whole number, at least 1.")
        if batch_size == 1:
            return [self.answer(prompt, adapter, system=system, **options) for prompt in prompts]
        sampling = Sampling.of(options)
        ids = [self.encode(self.render(prompt, system=system)).tolist() for prompt in prompts]
        found: list[Answer] = []
        for first in range(0, len(ids), batch_size):
            found += self.answers_to_tokens(ids[first : first + batch_size], adapter, sampling)
        return found

    def _decoded(
        self, prompt: Prompt, adapter: str | None, system: str | None, sampling: Sampling, answer: Answer
    ) -> Iterator[str]:
        """The pieces of ``answer``, which is filled as they are taken."""
        ids = self.encode(self.render(prompt, system=system))
        return self._pieces(ids, self._search(len(ids), sampling), self.known(adapter), sampling, answer)

    def _pieces(
        self, ids: "np.ndarray", params: "og.GeneratorParams", adapter: str | None, sampling: Sampling, answer: Answer
    ) -> Iterator[str]:
        start = time.perf_counter()
        generator = self._generator(params, adapter)
        self._read(generator, ids)
        answer.finite = _finite(generator)[0]
        stream = self.tokenizer.create_stream()
        stop = StopText(sampling.stop)
        while not generator.is_done() and answer.finite:
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            answer.seconds_per_token.append(time.perf_counter() - start)
            start = time.perf_counter()
            answer.tokens.append(token)
            if token in self._eos:
                answer.ended = "end"
                break
            if piece := stop.passed(stream.decode(token)):
                answer.text += piece
                yield piece
            if stop.reached:
                answer.ended = "stop"
                break
        if answer.finite and answer.tokens and not generator.is_done():
            answer.finite = _finite(generator)[0]
        if held := stop.rest():
            answer.text += held
            yield held

    def answers_to_tokens(
        self, prompts: Sequence[Sequence[int]], adapter: str | None, sampling: Sampling
    ) -> list[Answer]:
        """The answers to rendered prompts, as token ids, in one batch, the shorter ones padded."""
        import numpy as np

        if self._piece and len(prompts) > 1:  # GenAI takes several rows as a whole alone
            return [answer for ids in prompts for answer in self.answers_to_tokens([ids], adapter, sampling)]
        longest = max(map(len, prompts))
        generator = self._generator(
            self._search(longest, sampling, rows=len(prompts)), self.known(adapter), rows=len(prompts)
        )
        padded = np.full((len(prompts), longest), self._pad, np.int32)
        for row, ids in zip(padded, prompts, strict=True):
            row[: len(ids)] = ids
        start = time.perf_counter()
        self._read(generator, padded)
        answers = [Answer(finite=finite) for finite in _finite(generator)]
        streams = [self.tokenizer.create_stream() for _ in prompts]
        stops = [StopText(sampling.stop) for _ in prompts]
        while not generator.is_done() and any(answer.ended == "length" and answer.finite for answer in answers):
            generator.generate_next_token()
            seconds, start = time.perf_counter() - start, time.perf_counter()
            for answer, stream, stop, token in zip(
                answers, streams, stops, map(int, generator.get_next_tokens()), strict=True
            ):
                if answer.ended != "length" or not answer.finite:
                    continue
                answer.seconds_per_token.append(seconds)
                answer.tokens.append(token)
                if token in self._eos:
                    answer.ended = "end"
                    continue
                answer.text += stop.passed(stream.decode(token))
                answer.ended = "stop" if stop.reached else "length"
        for answer, stop in zip(answers, stops, strict=True):
            answer.text += stop.rest()
        return answers

    def logits(self, ids: Sequence[int], adapter: str | None) -> "np.ndarray":
        """Those of the token after ``ids``, [vocabulary]."""
        import numpy as np

        params = self._search(len(ids), Sampling(max_new_tokens=1))
        generator = self._generator(params, self.known(adapter))
        self._read(generator, np.array(ids, np.int32))
        return np.array(generator.get_logits(), np.float32).reshape(-1, self.vocabulary)[-1]

    def _read(self, generator: "og.Generator", ids: "np.ndarray") -> None:
        """Have a prompt read, [tokens] or [rows, tokens]: whole, or in pieces where it has to be (webgpu.PIECE)."""
        length = ids.shape[-1]
        piece = self._piece or length
        with _runs(self.folder):
            for start in range(0, length, piece):
                generator.append_tokens(ids[..., start : start + piece])

    def known(self, adapter: str | None) -> str | None:
        """``adapter`` itself if the model has it, or if it is None; else a PressError that names those there are."""
        if adapter is not None and adapter not in self.adapters:
            known = ", ".join(self.adapters) or "none"
            raise PressError(f"{self.folder.parent}: no adapter {adapter!r} (there: {known}).")
        return adapter

    def _search(self, prompt_tokens: int, sampling: Sampling, rows: int = 1) -> "og.GeneratorParams":
        """GenAI's options for prompts of this length; PressError if the context has no room for an answer."""
        import onnxruntime_genai as og

        room = self.context_length - prompt_tokens
        if room < 1:
            raise PressError(
                f"the prompt has {prompt_tokens} tokens, the model's context {self.context_length}: shorten it."
            )
        length = prompt_tokens + min(sampling.max_new_tokens, room)
        batch = {"batch_size": rows} if rows > 1 else {}
        with _runs(self.folder):
            params = og.GeneratorParams(self._loaded_for(rows).model)
            params.set_search_options(max_length=length, **batch, **sampling.search_options())
        return params

    def _generator(self, params: "og.GeneratorParams", adapter: str | None, rows: int = 1) -> "og.Generator":
        import onnxruntime_genai as og

        loaded = self._loaded_for(rows)
        with _runs(self.folder):
            generator = og.Generator(loaded.model, params)
            if adapter:
                generator.set_active_adapter(loaded.adapters, adapter)
        return generator

    def _finite(self, pieces: Iterator[str], answer: Answer) -> Iterator[str]:
        yield from pieces
        if not answer.finite:
            raise PressError(f"{self.folder}: the logits are not finite (NaN or infinite): the model is broken.")


def encode(tokenizer: "og.Tokenizer", text: str, vocabulary: int, folder: Path) -> "np.ndarray":
    """The tokens of ``text``, int32; PressError for those that the model in ``folder``, with so many in its
    ``vocabulary``, has no row for: it would answer to them all the same."""
    ids = tokenizer.encode(text)
    wrong = ids[(ids < 0) | (ids >= vocabulary)]
    if len(wrong):
        raise PressError(
            f"{folder}: the tokenizer has id {wrong[0]} for a part of the text, and the model {vocabulary} tokens "
            "(vocab_size): they do not belong together. Get the model again."
        )
    return ids


@contextmanager
def _runs(folder: Path) -> Iterator[None]:
    """Within: GenAI's words on a model whose parts do not fit each other, or the memory, are a PressError."""
    try:
        yield
    except RuntimeError as error:
        raise PressError(f"{folder}: ONNX Runtime GenAI cannot run it: {error}") from error


def _finite(generator: "og.Generator") -> list[bool]:
    """Whether the logits of each row are all finite."""
    import numpy as np

    return [bool(np.isfinite(row).all()) for row in generator.get_logits()]


def check_providers(folder: Path, config: dict[str, Any]) -> None:
    """PressError for a model that was made for CUDA, WebGPU or another provider where there is none."""
    import onnxruntime_genai as og

    for name, provider in unproved.NAMES.items():
        if _asks_for(config, name):
            unproved.register(folder, provider)
    if _asks_for(config, "webgpu"):
        webgpu.register(folder)
    if _asks_for(config, "cuda"):
        if not og.is_cuda_available():
            raise PressError(
                f"{folder}: was made for CUDA, and this onnxruntime_genai has none: pip install "
                "'olivepress[runtime-cuda]' in an environment without the CPU build, or load a CPU target."
            )
        import onnxruntime

        onnxruntime.preload_dlls()  # CUDA's libraries that pip installed are where no linker looks


def _asks_for(config: dict[str, Any], provider: str) -> bool:
    """Whether a GenAI configuration names the provider, by GenAI's name of it in small letters."""
    return provider in {name.lower() for name in providers(config)}


def captures_cuda_graphs(config: dict[str, Any]) -> bool:
    """Whether a GenAI configuration has decoding steps captured as CUDA graphs."""
    return str((options_of(config, "cuda") or {}).get("enable_cuda_graph")) == "1"


def load_model(
    folder: Path, checked: dict[str, Any], graph: Graph | None = None, *, cuda_graph: bool = True
) -> "og.Model":
    """GenAI's model in ``folder``, with as many threads as this process may use. RuntimeError is GenAI's own.

    ``checked``: what `read_genai_config` found there and let through. ``graph``: the one that `choose` took; None lets
    it choose. Without ``cuda_graph`` none is captured, whatever the folder says. PressError for a CUDA model where
    there is none.
    """
    import onnxruntime_genai as og

    check_providers(folder, checked)
    config = og.Config(str(folder))
    decoder = (graph or choose(folder)).overlay()
    if threads := thread_limit():
        decoder.setdefault("session_options", {})["intra_op_num_threads"] = threads
    config.overlay(json.dumps({"model": {"decoder": decoder}}))
    if not cuda_graph:
        config.set_provider_option("cuda", "enable_cuda_graph", "0")
    return og.Model(config)
