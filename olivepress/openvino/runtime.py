"""Answers and log-probabilities through openvino_genai, the runtime that users have, adapters by its AdapterConfig."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError, first_sentence
from olivepress.openvino.graph import MODEL
from olivepress.openvino.tokenizer import encode
from olivepress.runtime.prompt import control_tokens, messages_of, refuse_control, render_text
from olivepress.runtime.threads import thread_limit

if TYPE_CHECKING:
    import numpy as np
    import openvino
    import openvino_genai

# OpenVINO's execution hints. "performance" is its default: a device's fastest precision (bfloat16, float16, activations
# in int8 before compressed weights). "accuracy" is float32 throughout.
HINTS = ("performance", "accuracy")


@dataclass(frozen=True)
class Answer:
    """Text and token ids of an answer; tokens a second after the first, and milliseconds until it."""

    text: str
    tokens: list[int]
    tokens_per_second: float
    first_ms: float


def settings_of(hint: str) -> dict[str, Any]:
    """OpenVINO's properties for one of HINTS, within this process's limit of threads."""
    found: dict[str, Any] = {"EXECUTION_MODE_HINT": hint.upper()}
    if hint == "accuracy":
        found["KV_CACHE_PRECISION"] = "f32"
    if threads := thread_limit():
        found["INFERENCE_NUM_THREADS"] = threads
    return found


class OpenVinoModel:
    """An exported model with its adapters, loaded once.

    ``adapters`` maps a name to its file (`adapter.convert`); ``template``: "chat", or the text template that it was
    trained with; ``device``: CPU, GPU, NPU as OpenVINO names them; ``hint``: one of HINTS. PressError if the folder is
    no model, OpenVINO has no such device here, or an adapter does not load.
    """

    def __init__(
        self,
        folder: Path,
        adapters: dict[str, Path],
        *,
        template: str = "chat",
        device: str = "CPU",
        hint: str = HINTS[0],
    ) -> None:
        import openvino_genai

        if not (folder / MODEL).is_file():
            raise PressError(f"{folder}: has no {MODEL}. Expected what `olivepress openvino export` wrote.")
        check_device(device)
        self._folder, self._device, self._template = folder, device, template
        self._settings = settings_of(hint)
        with refused(folder):
            self._adapters = {name: openvino_genai.Adapter(str(path)) for name, path in adapters.items()}
            self._known = openvino_genai.AdapterConfig(list(self._adapters.values()))
            self._tokenizer = openvino_genai.Tokenizer(str(folder))
            self._pipeline = openvino_genai.LLMPipeline(
                str(folder), device, scheduler_config=_scheduler(), **self._with_adapters()
            )
        self._control = control_tokens(folder)

    def _with_adapters(self) -> dict[str, Any]:
        return {**self._settings, "adapters": self._known} if self._adapters else self._settings

    @cached_property
    def _scorer(self) -> "openvino_genai.ContinuousBatchingPipeline":
        """The only pipeline of OpenVINO GenAI's that says how likely a prompt's own tokens are."""
        import openvino_genai

        with refused(self._folder):
            return openvino_genai.ContinuousBatchingPipeline(
                str(self._folder), _scheduler(), self._device, self._with_adapters()
            )

    def render(self, prompt: str, *, system: str | None = None) -> str:
        """The text that the model sees, up to where its answer begins; PressError for control tokens in a message."""
        messages = messages_of(prompt, system)
        refuse_control(messages, self._control)
        if self._template != "chat":
            return render_text(self._template, messages)
        return self._tokenizer.apply_chat_template([dict(one) for one in messages], add_generation_prompt=True)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as it stands."""
        return encode(self._tokenizer, text)

    def answer(
        self,
        prompt: str,
        adapter: str | None = None,
        *,
        system: str | None = None,
        max_new_tokens: int = 256,
        on_text: Callable[[str], Any] | None = None,
    ) -> Answer:
        """The greedy answer; ``on_text`` gets each piece of it as it comes."""
        ids = self.encode(self.render(prompt, system=system))
        return self.answer_to_tokens(ids, adapter, max_new_tokens=max_new_tokens, on_text=on_text)

    def answer_to_tokens(
        self,
        ids: Sequence[int],
        adapter: str | None = None,
        *,
        max_new_tokens: int = 256,
        on_text: Callable[[str], Any] | None = None,
        to_the_end: bool = False,
    ) -> Answer:
        """The same to the token ids of a prompt; ``to_the_end``: always ``max_new_tokens``, for timing."""
        config = self._greedy(adapter, max_new_tokens)
        config.ignore_eos = to_the_end
        said = (lambda text: on_text(text) and None,) if on_text else ()
        with refused(self._folder):
            found = self._pipeline.generate(_tensor(ids), config, *said)
        tokens = list(found.tokens[0])
        metrics = found.perf_metrics
        later = metrics.get_tpot().mean if len(tokens) > 1 else 0.0
        return Answer(
            self._tokenizer.decode(tokens), tokens, 1e3 / later if later > 0 else 0.0, metrics.get_ttft().mean
        )

    def log_probs(self, rows: Sequence[Sequence[int]], adapter: str | None = None) -> "Iterator[np.ndarray]":
        """Of each row of token ids, the log-probability [len(row)] (nats) of every token after those before it; that
        of the first token is of nothing.

        A request's own adapters are passed over where it is added to the queue (openvino_genai 2026.4.1): they are set
        by `generate`, and stay. So one token is generated first.
        """
        import numpy as np

        config = self._greedy(adapter, 1)
        config.ignore_eos = True
        with refused(self._folder):
            self._scorer.generate([_tensor(rows[0])], [config])
            config.echo, config.logprobs = True, 1
            for number, ids in enumerate(rows):
                handle = self._scorer.add_request(number, _tensor(ids), config)
                while self._scorer.has_non_finished_requests():
                    self._scorer.step()
                (output,) = handle.read_all()
                yield np.asarray(output.generated_log_probs[: len(ids)], np.float64)

    def _greedy(self, adapter: str | None, max_new_tokens: int) -> "openvino_genai.GenerationConfig":
        import openvino_genai

        if adapter is not None and adapter not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise PressError(f"adapter {adapter!r}: not loaded (there: {known}).")
        config = self._pipeline.get_generation_config()
        config.do_sample = False
        config.max_new_tokens = max_new_tokens
        config.apply_chat_template = False
        chosen = [self._adapters[adapter]] if adapter else []
        config.adapters = openvino_genai.AdapterConfig(chosen) if self._adapters else None
        return config


def check_device(device: str) -> None:
    """PressError if OpenVINO has no such device on this machine."""
    import openvino

    there = openvino.Core().available_devices
    if not any(one == device or one.partition(".")[0] == device for one in there):
        raise PressError(
            f"device {device!r}: OpenVINO finds {', '.join(there)} on this machine. A GPU or NPU needs Intel's driver."
        )


@contextmanager
def refused(folder: Path) -> Iterator[None]:
    """OpenVINO's own errors inside the block become a PressError about ``folder``."""
    try:
        yield
    except RuntimeError as error:
        raise PressError(f"{folder}: OpenVINO GenAI: {first_sentence(error)}") from error


def _scheduler() -> "openvino_genai.SchedulerConfig":
    """Without the cache of prompts' beginnings: its keys are tokens, and do not say with which adapter."""
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False
    return scheduler


def _tensor(ids: Sequence[int]) -> "openvino.Tensor":
    import numpy as np
    import openvino

    return openvino.Tensor(np.asarray([ids], np.int64))
