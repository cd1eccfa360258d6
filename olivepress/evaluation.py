"""What each step costs and wins: held-out losses along the pipeline, and ONNX Runtime against PyTorch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from olivepress.dequantize import load_model
from olivepress.onnx_logits import OnnxLogits
from olivepress.pretrained import load_tokenizer

if TYPE_CHECKING:
    import numpy as np

Logits = Callable[[list[int]], "np.ndarray"]


@dataclass(frozen=True)
class Subject:
    """The same model at every step of the pipeline, and where to run it."""

    base: Path
    quantized: Path
    adapters: dict[str, Path]  # PEFT folders
    onnx: Path
    onnx_adapters: dict[str, Path]
    provider: str
    dtype: str
    device: str
    trust_remote_code: bool


def evaluate(subject: Subject, texts: dict[str, list[str]], sequence_length: int) -> dict[str, Any]:
    """Rows, losses per data set and step, and agreement of ONNX Runtime with PyTorch per adapter.

    ``texts``: data set -> held-out texts. A set named like an adapter is evaluated with that adapter, too.
    Loss is the mean negative log-likelihood in nats per token over a whole set; perplexity is its exponential.
    Agreement compares logits on the same tokens: the relative error |onnx - torch| / |torch| in the Frobenius norm,
    and the share of positions with the same greatest logit.
    """
    import torch
    from peft import PeftModel

    tokenizer = load_tokenizer(subject.quantized, trust_remote_code=subject.trust_remote_code)
    tokens = {
        name: [tokenizer.encode(text, add_special_tokens=False)[:sequence_length] for text in rows]
        for name, rows in texts.items()
    }
    tokens = {name: [ids for ids in rows if len(ids) > 1] for name, rows in tokens.items()}

    def load(folder: Path) -> Any:
        dtype = getattr(torch, subject.dtype)
        return load_model(folder, dtype=dtype, device=subject.device, trust_remote_code=subject.trust_remote_code)

    def run(model: Any) -> Logits:
        def logits(ids: list[int]) -> "np.ndarray":
            with torch.inference_mode():
                return model(torch.tensor([ids], device=subject.device)).logits[0].float().cpu().numpy()

        return logits

    losses: dict[str, dict[str, Any]] = {name: {} for name in tokens}
    base = load(subject.base)
    for name, rows in tokens.items():
        losses[name]["base"] = _loss(run(base), rows, f"{name}: base")
    del base

    quantized = load(subject.quantized)
    torch_runs: dict[str | None, Logits] = {}
    if subject.adapters:
        first, *rest = subject.adapters
        quantized = PeftModel.from_pretrained(quantized, subject.adapters[first], adapter_name=first).eval()
        for name in rest:
            quantized.load_adapter(subject.adapters[name], adapter_name=name)

    def with_adapter(name: str | None) -> Logits:
        def logits(ids: list[int]) -> "np.ndarray":
            if name is not None:
                quantized.set_adapter(name, inference_mode=True)
                return run(quantized)(ids)
            if not subject.adapters:
                return run(quantized)(ids)
            with quantized.disable_adapter():
                return run(quantized)(ids)

        return logits

    torch_runs = {name: with_adapter(name) for name in (None, *subject.adapters)}
    onnx = OnnxLogits(subject.onnx, subject.onnx_adapters, subject.provider)
    agreement: dict[str, Agreement] = {}
    for name, rows in tokens.items():
        for adapter, step in ((None, "quantized"), (name, "finetuned")):
            if adapter is not None and adapter not in subject.adapters:
                continue  # a data set that no adapter was trained for
            comparison = agreement.setdefault(adapter or "none", Agreement())
            onnx_run = lambda ids, adapter=adapter: onnx(ids, adapter)  # noqa: E731
            figures = comparison.compare(torch_runs[adapter], onnx_run, rows, f"{name}: {step}")
            losses[name][step], losses[name][f"{step}_onnx"] = figures
    return {
        "rows": {name: len(rows) for name, rows in tokens.items()},
        "loss": losses,
        "perplexity": {
            name: {step: round(math.exp(loss), 3) for step, loss in steps.items()} for name, steps in losses.items()
        },
        "agreement": {name: comparison.summary() for name, comparison in agreement.items()},
    }


def _nll(logits: "np.ndarray", ids: list[int]) -> float:
    """Sum of negative log-likelihoods of ids[1:] under logits [len(ids), vocabulary]."""
    import numpy as np

    rows = logits[:-1].astype(np.float64)
    top = rows.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(rows - top).sum(axis=1)) + top[:, 0]
    return float((normaliser - rows[np.arange(len(rows)), ids[1:]]).sum())


def _loss(run: Logits, rows: list[list[int]], label: str) -> float:
    total = sum(_nll(run(ids), ids) for ids in tqdm(rows, desc=label))
    return round(total / sum(len(ids) - 1 for ids in rows), 4)


class Agreement:
    """Running comparison of two ways to compute the same logits."""

    def __init__(self) -> None:
        self.squared_error = self.squared_norm = 0.0
        self.same = self.positions = 0

    def compare(self, reference: Logits, candidate: Logits, rows: list[list[int]], label: str) -> tuple[float, float]:
        """Add ``rows`` to the comparison; returns both losses, in nats per token."""
        nll = [0.0, 0.0]
        for ids in tqdm(rows, desc=label):
            expected, found = reference(ids), candidate(ids)
            nll[0] += _nll(expected, ids)
            nll[1] += _nll(found, ids)
            self.squared_error += float(((found - expected) ** 2).sum())
            self.squared_norm += float((expected**2).sum())
            self.same += int((found.argmax(-1) == expected.argmax(-1)).sum())
            self.positions += len(ids)
        count = sum(len(ids) - 1 for ids in rows)
        return round(nll[0] / count, 4), round(nll[1] / count, 4)

    def summary(self) -> dict[str, float]:
        error = math.sqrt(self.squared_error / self.squared_norm)
        return {"relative_error": float(f"{error:.2g}"), "same_top_token": round(self.same / self.positions, 4)}
