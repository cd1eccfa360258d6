"""lm-eval's own backend for ONNX Runtime GenAI, with an adapter, and loaded as this project loads models."""

from pathlib import Path
from typing import Any

from lm_eval.models.onnxruntime_genai import ONNXRuntimeGenAILM

from olivepress.runtime.genai import load_model
from olivepress.runtime.graphs import CONFIGURED, choose
from olivepress.runtime.trust import read_genai_config

NAME = "adapter"


class AdaptedLM(ONNXRuntimeGenAILM):
    """The exported model in ``folder``; every request is answered with the ``adapter`` file, if there is one.

    Native code in the folder is loaded only if it is known (runtime/trust.py), unlike with lm-eval's own class.
    """

    def __init__(self, folder: Path, adapter: Path | None = None, **settings: Any) -> None:
        self._adapter = adapter
        super().__init__(str(folder), **settings)

    def _load(self) -> None:
        self.og = self._import_genai()
        config = read_genai_config(self.model_dir)
        # the portable graph, as evaluate has it: metrics do not depend on the machine
        self.model = load_model(self.model_dir, config, choose(self.model_dir, CONFIGURED))
        if self._adapter:
            adapters = self.og.Adapters(self.model)
            adapters.load(str(self._adapter), NAME)
            self.og = _Adapted(self.og, adapters)

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval tells cached requests apart by."""
        return f"{self.model_dir.as_posix()}/tokenizer"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that is asked in, as lm-eval records it."""
        return self.tokenizer.chat_template if chat_template else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the model sees it; an answer that has begun (a task's prefix) is left open."""
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )


class _Adapted:
    """onnxruntime_genai, whose generators have the adapter on: lm-eval's class makes one for each request."""

    def __init__(self, og: Any, adapters: Any) -> None:
        self._og, self._adapters = og, adapters

    def __getattr__(self, name: str) -> Any:
        return getattr(self._og, name)

    def Generator(self, model: Any, params: Any) -> Any:
        generator = self._og.Generator(model, params)
        generator.set_active_adapter(self._adapters, NAME)
        return generator
