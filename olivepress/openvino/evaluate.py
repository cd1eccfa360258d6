"""The OpenVINO model held to what PyTorch computed, by the rows, metrics and thresholds of every target.

Losses and answers are those of openvino_genai with its AdapterConfig, which is what users run. It gives no whole
distributions: KL divergence and top tokens are of the same graph with the adapter's two products put in (`logits.py`),
whose losses have to be openvino_genai's, row by row.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError
from olivepress.core.gates import GENERAL, Figure, Measured, Verdict
from olivepress.core.report import progress
from olivepress.evaluate.exported import ADAPTER, Exported
from olivepress.evaluate.figures import intervals, quality
from olivepress.evaluate.rows import Row
from olivepress.evaluate.scores import SCORES, TOP, Scores, Top, load_top
from olivepress.openvino.logits import OpenVinoLogits
from olivepress.openvino.runtime import OpenVinoModel

# Nats a token that a row's loss may differ between openvino_genai and the graph with the adapter put in: both round
# where a device computes in 16 bits or rounds activations. An adapter that is not active is off by nats.
AGREE = {"accuracy": 1e-3, "performance": 0.25}


class OnOpenVino(Exported):
    """As `Exported`: the model in ``folder`` alone, or with the one adapter file, on ``device`` under ``hint``.

    ``largest_difference``: of a row's losses by openvino_genai and by the graph with the adapter, nats a token.
    """

    def __init__(self, folder: Path, adapter: Path | None = None, *, device: str, hint: str) -> None:
        adapters = {ADAPTER: adapter} if adapter else {}
        self._folder, self._hint = folder, hint
        self._runtime = OpenVinoModel(folder, adapters, device=device, hint=hint)
        self._logits = OpenVinoLogits(folder, adapters, device=device, hint=hint)
        self.largest_difference = 0.0

    def score(self, rows: list[Row], top: Top, step: str, label: str, *, adapted: bool) -> Scores:
        """Losses by openvino_genai, divergence from the reference's likeliest tokens by the graph, of each row."""
        label = _named(label)
        scores = super().score(rows, top, step, f"{label}, logits", adapted=adapted)
        found = self._runtime.log_probs([row.ids for row in rows], ADAPTER if adapted else None)
        nll = []
        (expected,) = scores.nll.values()
        for row, log_probs, other in zip(rows, progress(found, label, len(rows)), expected, strict=True):
            nll.append(round(-float(log_probs[row.predicted].sum()), 5))
            difference = abs(nll[-1] - other) / len(row.predicted)
            self.largest_difference = max(self.largest_difference, difference)
            if not difference <= AGREE[self._hint]:
                raise PressError(
                    f"{self._folder}: {label}: OpenVINO GenAI's loss of a row is {difference:.3g} nats a token from "
                    f"that of the graph with the adapter put in (at most {AGREE[self._hint]}): the adapter is not "
                    "active, or not whole. Export and convert it again."
                )
        return scores.with_(Scores(rows, nll={f"{step}_onnx": nll}))

    def answers(self, reference: Scores, label: str, *, adapted: bool) -> list[str]:
        """The greedy answer to each question; PressError for a text that is read otherwise than it was in training."""
        for row, text in zip(reference.rows, reference.texts, strict=False):
            if text and self._runtime.encode(text) != row.ids:
                raise PressError(f"{self._folder}: OpenVINO reads {text[:120]!r} otherwise than transformers.")
        name, most = ADAPTER if adapted else None, reference.answer_tokens
        asked = progress(reference.prompts, _named(label))
        return [self._runtime.answer_to_tokens(ids, name, max_new_tokens=most).text for ids in asked]


def measure_base(folder: Path, reference: Path, **where: str) -> tuple[Scores, float]:
    """Scores without an adapter on general rows, of ``reference`` (what the stage reference-base wrote)."""
    evaluator = OnOpenVino(folder, **where)
    torch = Scores.load(reference / SCORES)
    top = load_top(reference / TOP)["quantized"]
    scores = torch.with_(evaluator.measure(torch, top, "quantized", GENERAL, adapted=False))
    return scores, evaluator.largest_difference


def measure_adapter(
    folder: Path, adapter: Path, reference: Path, general: Scores, **where: str
) -> tuple[dict[str, Scores], float]:
    """Scores by set, with an adapter on its held-out rows and on general ones; ``general``: those without."""
    evaluator, sets = OnOpenVino(folder, adapter, **where), {}
    for name in ("held_out", GENERAL):
        torch = Scores.load(reference / name / SCORES)
        sets[name] = torch
        for step, top in load_top(reference / name / TOP).items():
            adapted = step == "finetuned"
            sets[name] = sets[name].with_(evaluator.measure(torch, top, step, name, adapted=adapted))
    sets[GENERAL] = general.with_(sets[GENERAL])
    return sets, evaluator.largest_difference


def figures(sets: dict[str, Scores]) -> dict[tuple[str, str, str, str | None], Figure]:
    """What the gate reads: (set, metric, step, minus) -> value and interval."""
    return {
        (one["set"], one["metric"], one["step"], one["minus"]): Figure(one["value"], one["low"], one["high"])
        for name, scores in sets.items()
        for one in intervals(scores, name)
    }


def measured(sets: dict[str, dict[str, Scores]], size: int, speed: dict[str, Figure]) -> Measured:
    """``sets``: adapter, or GENERAL for none -> its sets; ``size``: bytes of model and adapters."""
    return Measured({data: figures(scores) for data, scores in sets.items()}, size, speed)


def shown(sets: dict[str, dict[str, Scores]]) -> dict[str, Any]:
    """Every metric by adapter (or GENERAL), set and step, for the file of results."""
    return {data: {name: _renamed(quality(scores)) for name, scores in by_set.items()} for data, by_set in sets.items()}


def told(found: Iterable[Verdict]) -> list[dict[str, Any]]:
    """The verdicts for the file of results."""
    return [
        {
            "ok": each.ok,
            "metric": _named(each.metric),
            **asdict(each.figure),
            "threshold": each.threshold,
            "limit": each.limit,
        }
        for each in found
    ]


def _named(text: str) -> str:
    """Exported's and the gate's steps are called after ONNX Runtime."""
    return text.replace("_onnx", "_openvino")


def _renamed(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {_named(step): value for step, value in found.items()} if isinstance(found, dict) else found
        for name, found in metrics.items()
    }
