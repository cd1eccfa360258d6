"""What was measured of each row: kept, so that nothing is computed twice and differences can be paired by row."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from olivepress.core.outputs import read_json
from olivepress.evaluate.rows import Row

if TYPE_CHECKING:
    import numpy as np

# Likeliest tokens of PyTorch's that are kept at each place, to compare ONNX Runtime's with. They travel with a push.
KEPT = 64
SCORES, TOP = "scores.json", "top.safetensors"


@dataclass
class Question:
    """A row that is answered, too: its number, and the texts of its prompt and of the answer in the data set."""

    row: int
    prompt: str
    reference: str


@dataclass
class Scores:
    """A data set's rows and, by step (base, quantized, finetuned, …_onnx, …_operators), what was measured of each.

    ``nll``: the sum over a row's predicted tokens of the negative log-likelihood, in nats. ``kl_divergence`` (nats) and
    ``same_top_token``: sums over the same tokens of PyTorch's step against ONNX Runtime's, by the name of PyTorch's for
    the portable graph and …_operators for the one with native operators. ``answers``: a text for each question, of at
    most ``answer_tokens`` tokens, as the references are. ``texts``: a row as text, empty where transformers itself does
    not read it as the row's tokens again (one that is cut within a letter).
    """

    rows: list[Row]
    answer_tokens: int = 0
    questions: list[Question] = field(default_factory=list)
    nll: dict[str, list[float]] = field(default_factory=dict)
    kl_divergence: dict[str, list[float]] = field(default_factory=dict)
    same_top_token: dict[str, list[int]] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """Predicted tokens of each row."""
        return [len(row.predicted) for row in self.rows]

    @property
    def prompts(self) -> list[list[int]]:
        """The token ids that each question is asked with."""
        return [self.rows[one.row].ids[: self.rows[one.row].answer] for one in self.questions]

    def with_(self, other: "Scores") -> "Scores":
        """These and those of ``other``, which are of the same rows."""
        merged = {
            name: {**getattr(self, name), **getattr(other, name)}
            for name in ("nll", "kl_divergence", "same_top_token", "answers")
        }
        return Scores(self.rows, self.answer_tokens, self.questions, texts=self.texts, **merged)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        value: dict[str, Any] = read_json(path)
        rows = [Row(**row) for row in value.pop("rows")]
        questions = [Question(**one) for one in value.pop("questions")]
        return cls(rows=rows, questions=questions, **value)


@dataclass(frozen=True)
class Top:
    """A step's likeliest tokens at every predicted place of all rows, one after the other, the likeliest first.

    ``ids`` and ``log_probs``: [places, KEPT], or fewer columns where the vocabulary is smaller.
    """

    ids: "np.ndarray"
    log_probs: "np.ndarray"

    def of_rows(self, tokens: Sequence[int]) -> "list[Top]":
        """The same for each row; ``tokens``: how many predicted ones each has."""
        import numpy as np

        edges = np.cumsum(tokens)[:-1]
        return [Top(*parts) for parts in zip(np.split(self.ids, edges), np.split(self.log_probs, edges), strict=True)]


def save_top(path: Path, tops: dict[str, Top]) -> None:
    """Write the likeliest tokens of several steps."""
    from safetensors.numpy import save_file

    save_file(
        {f"{step}.{name}": getattr(top, name) for step, top in tops.items() for name in ("ids", "log_probs")}, path
    )


def load_top(path: Path) -> dict[str, Top]:
    """Step -> what ``save_top`` wrote of it."""
    from safetensors.numpy import load_file

    tensors = load_file(path)
    steps = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
    return {step: Top(tensors[f"{step}.ids"], tensors[f"{step}.log_probs"]) for step in steps}


def divergence(reference: Top, log_probs: "np.ndarray") -> "np.ndarray":
    """KL(reference ‖ other) at each place, in nats; ``log_probs``: the other's, [places, vocabulary].

    Over the kept tokens and one event for all others. Joining events never raises a divergence (the log sum
    inequality), so this is at most the one over the whole vocabulary, and equal where all of it is kept.
    """
    import numpy as np

    theirs = np.take_along_axis(log_probs, reference.ids.astype(np.int64), axis=1).astype(np.float64)
    ours = reference.log_probs.astype(np.float64)
    found = (np.exp(ours) * (ours - theirs)).sum(axis=1)
    if reference.ids.shape[1] < log_probs.shape[1]:
        rest, their_rest = (np.maximum(1 - np.exp(each).sum(axis=1), 1e-9) for each in (ours, theirs))
        found += rest * np.log(rest / their_rest)
    return np.maximum(found, 0)
