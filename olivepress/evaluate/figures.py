"""The figures of a data set that are shown and held to thresholds, from what was measured of each row."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from olivepress.evaluate.answers import exact_match, rouge_l
from olivepress.evaluate.intervals import Figure, estimate, exponential, mean
from olivepress.evaluate.scores import Scores

# Differences of steps that say something: what each step costs or gains, and what is lost between its two runtimes.
PAIRS = (
    ("quantized", "base"),
    ("finetuned", "quantized"),
    ("finetuned", "base"),
    ("quantized_onnx", "quantized"),
    ("finetuned_onnx", "finetuned"),
    ("finetuned_onnx", "quantized_onnx"),
    ("quantized_onnx", "base"),
    ("finetuned_onnx", "base"),
    ("quantized_operators", "quantized"),
    ("finetuned_operators", "finetuned"),
)
ORDER = (
    *("base", "quantized", "finetuned"),
    *("quantized_onnx", "finetuned_onnx", "quantized_operators", "finetuned_operators"),
)
SAMPLES = 4  # questions whose answers are shown
SAMPLED = ("base", "quantized_onnx", "finetuned_onnx")


DIGITS = {"loss": 4, "perplexity": 3, "rouge_l": 4, "exact_match": 4, "kl_divergence": 6, "same_top_token": 4}


@dataclass(frozen=True)
class Metric:
    """How a metric is computed of rows: ``steps``: by step, a sum for each row; ``weights``: what it is divided by."""

    figure: Figure
    steps: dict[str, Sequence[float]]
    weights: Sequence[float]


def quality(scores: Scores) -> dict[str, Any]:
    """Rows, tokens, and each metric by step: numbers alone."""
    import numpy as np

    found: dict[str, Any] = {"rows": len(scores.rows), "tokens": sum(scores.tokens)}
    for name, metric in metrics(scores).items():
        weights = np.asarray(metric.weights, np.float64)
        found[name] = {
            step: round(float(metric.figure(np.asarray(sums, np.float64), weights, 0)), DIGITS[name])
            for step, sums in metric.steps.items()
        }
    return found


def intervals(scores: Scores, name: str) -> Iterator[dict[str, Any]]:
    """Value and interval of each metric by step, and of each difference of two steps; ``name``: the data set's."""
    for metric_name, metric in metrics(scores).items():
        pairs = [(step, None) for step in metric.steps]
        if metric_name not in ("kl_divergence", "same_top_token"):  # they compare two runtimes as it is
            pairs += [(step, minus) for step, minus in PAIRS if {step, minus} <= metric.steps.keys()]
        for step, minus in pairs:
            found = estimate(metric.figure, metric.steps[step], metric.weights, metric.steps[minus] if minus else None)
            entry = {"set": name, "metric": metric_name, "step": step, "minus": minus}
            yield {**entry, **{part: round(value, 6) for part, value in asdict(found).items()}}


def metrics(scores: Scores) -> dict[str, Metric]:
    """Every metric that there is something of, by name. Losses and divergences are nats per predicted token."""

    def ordered(steps: dict[str, Sequence[float]]) -> dict[str, Sequence[float]]:
        return {step: steps[step] for step in ORDER if step in steps}

    references, ones = [one.reference for one in scores.questions], [1] * len(scores.questions)
    answers = ordered(scores.answers)
    found = {
        "loss": Metric(mean, ordered(scores.nll), scores.tokens),
        "perplexity": Metric(exponential, ordered(scores.nll), scores.tokens),
        "rouge_l": Metric(mean, {step: rouge_l(references, texts) for step, texts in answers.items()}, ones),
        "exact_match": Metric(mean, {step: exact_match(references, texts) for step, texts in answers.items()}, ones),
        "kl_divergence": Metric(mean, ordered(scores.kl_divergence), scores.tokens),
        "same_top_token": Metric(mean, ordered(scores.same_top_token), scores.tokens),
    }
    return {name: metric for name, metric in found.items() if metric.steps}


def samples(scores: Scores, name: str) -> list[dict[str, Any]]:
    """A few questions of the data set ``name``, with the answers of the base and of what ships."""
    return [
        {
            "set": name,
            "prompt": one.prompt,
            "reference": one.reference,
            "answers": {step: scores.answers[step][number] for step in SAMPLED if step in scores.answers},
        }
        for number, one in enumerate(scores.questions[:SAMPLES])
    ]
