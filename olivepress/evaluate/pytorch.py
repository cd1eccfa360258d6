"""A checkpoint in PyTorch: the reference that ONNX Runtime is held to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.end_tokens import end_tokens
from olivepress.core.report import progress
from olivepress.evaluate.rows import Row, batches
from olivepress.evaluate.scores import KEPT, Scores, Top
from olivepress.modeling.dequantize import load_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

TOGETHER = 16  # answers that are generated at a time


@dataclass(frozen=True)
class TorchSettings:
    """How PyTorch runs a model: dtype of the weights (float32, bfloat16, float16), device (cpu, cuda)."""

    dtype: str
    device: str
    trust_remote_code: bool


class TorchModel:
    """The causal language model in ``folder``, with a PEFT ``adapter`` that `without_adapter` switches off."""

    def __init__(self, folder: Path, settings: TorchSettings, adapter: Path | None = None) -> None:
        import torch

        self._folder, self._device = folder, settings.device
        model = load_model(
            folder,
            dtype=getattr(torch, settings.dtype),
            device=settings.device,
            trust_remote_code=settings.trust_remote_code,
        )
        # transformers' models compute logits at the places that are asked for; a model's own code may not know it
        self._keeps = "logits_to_keep" in signature(model.forward).parameters
        self._vocabulary = model.config.get_text_config().vocab_size
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).eval()
        self._model, self._adapted = model, adapter is not None

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """The model as it is without its adapter, within the block."""
        with self._model.disable_adapter() if self._adapted else nullcontext():
            yield

    def score(self, rows: list[Row], step: str, label: str) -> tuple[Scores, Top]:
        """The rows' losses under ``step``, and the likeliest tokens; ``label`` names the progress bar."""
        import numpy as np

        nll: list[float] = [0.0] * len(rows)
        tops: list[Top | None] = [None] * len(rows)
        todo = list(batches([len(row.ids) for row in rows], self._vocabulary))
        for batch in progress(todo, label):
            for number, log_probs in zip(batch, self._log_probs([rows[number] for number in batch]), strict=True):
                nll[number], tops[number] = self._reduced(log_probs, rows[number].targets)
        kept = [top for top in tops if top is not None]
        joined = Top(np.concatenate([top.ids for top in kept]), np.concatenate([top.log_probs for top in kept]))
        return Scores(rows, nll={step: nll}), joined

    def _log_probs(self, rows: list[Row]) -> "Iterator[torch.Tensor]":
        """Log-probabilities [predicted tokens, vocabulary], float32, of each row of a batch."""
        import torch

        longest = max(len(row.ids) for row in rows)
        ids = torch.zeros((len(rows), longest), dtype=torch.long)  # padded behind, where no row looks
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            mask[number, : len(row.ids)] = 1
        places = sorted({place - 1 for row in rows for place in row.predicted})  # the logits that predict them
        column = {place: number for number, place in enumerate(places)}
        keep = {"logits_to_keep": torch.tensor(places, device=self._device)} if self._keeps else {}
        with torch.inference_mode():
            logits = self._model(ids.to(self._device), attention_mask=mask.to(self._device), **keep).logits
            for number, row in enumerate(rows):
                mine = [column[place - 1] if self._keeps else place - 1 for place in row.predicted]
                yield logits[number, mine].float().log_softmax(-1)

    def _reduced(self, log_probs: "torch.Tensor", targets: list[int]) -> tuple[float, Top]:
        import numpy as np
        import torch

        nll = -log_probs.gather(1, torch.tensor(targets, device=log_probs.device)[:, None]).double().sum()
        best = log_probs.topk(min(KEPT, log_probs.shape[1]), dim=-1)
        top = Top(best.indices.cpu().numpy().astype(np.int32), best.values.cpu().numpy())
        return round(float(nll), 5), top

    def answers(
        self, prompts: Sequence[list[int]], most: int, tokenizer: "PreTrainedTokenizerBase", label: str
    ) -> list[str]:
        """The greedy answer to each prompt (token ids), of at most ``most`` tokens."""
        import torch

        found = [""] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        for first in progress(range(0, len(order), TOGETHER), label):
            batch = order[first : first + TOGETHER]
            longest = max(len(prompts[number]) for number in batch)
            ids = torch.zeros((len(batch), longest), dtype=torch.long)  # padded in front
            mask = torch.zeros_like(ids)
            for place, number in enumerate(batch):
                ids[place, longest - len(prompts[number]) :] = torch.tensor(prompts[number])
                mask[place, longest - len(prompts[number]) :] = 1
            with torch.inference_mode():
                out = self._model.generate(
                    input_ids=ids.to(self._device),
                    attention_mask=mask.to(self._device),
                    generation_config=self._greedy(most, tokenizer),
                )
            for place, number in enumerate(batch):
                found[number] = tokenizer.decode(out[place, longest:].tolist(), skip_special_tokens=True)
        return found

    def _greedy(self, tokens: int, tokenizer: "PreTrainedTokenizerBase") -> Any:
        """The likeliest token each time, with none of the penalties that a checkpoint's own configuration may have."""
        from transformers import GenerationConfig

        ends = end_tokens(self._folder, tokenizer)  # as the exported model has them
        return GenerationConfig(
            max_new_tokens=tokens, do_sample=False, use_cache=True, eos_token_id=ends, pad_token_id=ends[0]
        )
