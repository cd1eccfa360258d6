"""Answers from an exported model through onnxruntime_genai, the runtime that users have. No torch."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.dataset import render_prompt
from olivepress.errors import PressError
from olivepress.threads import thread_limit

if TYPE_CHECKING:
    import onnxruntime_genai as og

SUFFIX = ".onnx_adapter"


@dataclass
class Answer:
    """What one prompt gave: text and token ids (quality), and seconds (cost; the first one is the prompt's)."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    seconds_per_token: list[float] = field(default_factory=list)
    finite: bool = True


class Chatbot:
    """A GenAI model folder with the adapters beside it, loaded once.

    Every answer has a generator of its own, whose adapter is set before the prompt is read and never changed: with CUDA
    graphs on (the default of a CUDA target) the first decoding step is captured with the adapter that is active then,
    and one set later would not be seen. Answers with different adapters may follow each other in any order.

    ``adapters`` maps a name to its file. Raises PressError if the folder is no model or an adapter does not load.
    """

    def __init__(self, model_folder: Path, adapters: dict[str, Path], *, template: str) -> None:
        import onnxruntime_genai as og

        if not (model_folder / "genai_config.json").is_file():
            raise PressError(f"{model_folder}: no genai_config.json. Run `dvc repro` to export the model.")
        start = time.perf_counter()
        try:
            self._model = load_model(model_folder)
        except RuntimeError as error:
            raise PressError(f"{model_folder}: ONNX Runtime GenAI cannot load it: {error}") from error
        self._adapters = og.Adapters(self._model)
        for name, path in adapters.items():
            try:
                self._adapters.load(str(path), name)
            except RuntimeError as error:
                raise PressError(f"{path}: ONNX Runtime GenAI cannot load it: {error}") from error
        self.tokenizer = og.Tokenizer(self._model)
        self.load_seconds = time.perf_counter() - start
        self._eos = set(self.tokenizer.eos_token_ids.tolist())
        self._template = template
        config = json.loads((model_folder / "genai_config.json").read_text(encoding="utf-8"))
        self.context_length: int = config["model"]["context_length"]

    def render(self, prompt: str) -> str:
        """The text that the model sees for a user's prompt, up to where its answer begins."""
        if self._template != "chat":
            return render_prompt(self._template, prompt)
        messages = json.dumps([{"role": "user", "content": prompt}])
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)

    def answer(
        self,
        prompt: str,
        adapter: str | None = None,
        *,
        max_new_tokens: int,
        on_text: Callable[[str], None] = lambda text: None,
    ) -> Answer:
        """Decode greedily until an end token or ``max_new_tokens``; ``on_text`` gets each piece as it comes.

        ``adapter`` is one of the names loaded, or None for the base alone.
        """
        import numpy as np
        import onnxruntime_genai as og

        ids = self.tokenizer.encode(self.render(prompt))
        room = self.context_length - len(ids)
        if room < 1:
            raise PressError(
                f"the prompt has {len(ids)} tokens, the model's context {self.context_length}: shorten it."
            )
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=len(ids) + min(max_new_tokens, room), do_sample=False)
        start = time.perf_counter()
        generator = og.Generator(self._model, params)
        if adapter:
            generator.set_active_adapter(self._adapters, adapter)
        generator.append_tokens(ids)
        result = Answer(finite=bool(np.isfinite(generator.get_logits()).all()))
        stream = self.tokenizer.create_stream()
        while not generator.is_done() and result.finite:
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            result.seconds_per_token.append(time.perf_counter() - start)
            start = time.perf_counter()
            result.tokens.append(token)
            if token in self._eos:
                break
            piece = stream.decode(token)
            result.text += piece
            on_text(piece)
        if result.finite and result.tokens and not generator.is_done():
            result.finite = bool(np.isfinite(generator.get_logits()).all())
        return result


def load_model(folder: Path) -> "og.Model":
    """GenAI's model in ``folder``, with as many threads as this process may use. RuntimeError is GenAI's own."""
    import onnxruntime_genai as og

    config = og.Config(str(folder))
    if threads := thread_limit():
        options = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
    return og.Model(config)


def find_adapters(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Name -> file for exactly ``names``; PressError if a file is missing or another lies beside them."""
    found = {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"*{SUFFIX}"))}
    for name in names:
        if name not in found:
            raise PressError(f"{folder / (name + SUFFIX)}: not there. Run `dvc repro` to convert adapter {name!r}.")
    for name, path in found.items():
        if name not in names:
            raise PressError(f"{path}: {name!r} is not among the adapters ({', '.join(names)}). Delete the stale file.")
    return {name: found[name] for name in names}
