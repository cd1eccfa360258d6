"""An exported model through ONNX Runtime and ONNX Runtime GenAI, held to what PyTorch computed."""

from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.artifact import OPERATORS
from olivepress.core.errors import PressError
from olivepress.core.outputs import read_json
from olivepress.core.proof import never_run
from olivepress.core.report import note, progress
from olivepress.evaluate.rows import Row, batches
from olivepress.evaluate.scores import Scores, Top, divergence
from olivepress.runtime.genai import Model
from olivepress.runtime.graphs import CONFIGURED, NATIVE, choose
from olivepress.runtime.logits import OnnxLogits, provider_of
from olivepress.runtime.sampling import Sampling

if TYPE_CHECKING:
    import numpy as np

ADAPTER = "adapter"
TOGETHER = 8  # answers that are generated at a time


def graphs(folder: Path, facts: Path | None = None) -> tuple[str, ...]:
    """Those of the model folder that are measured, as `Exported` takes them: every one that it has.

    ``facts``: what auto-opt wrote of the target; of one that no stage runs none is. PressError where one cannot run
    here, so that what is written does not depend on the machine.
    """
    if facts and never_run(read_json(facts)):
        note(f"{folder}: exported, its structure checked, never run here: the figures are PyTorch's alone.")
        return ()
    if not (folder / OPERATORS).is_file():
        return (CONFIGURED,)
    try:
        choose(folder, NATIVE)
    except PressError as error:
        raise PressError(
            f"{error.message} Every graph that ships is measured: evaluate it where the operators run (Linux, x86-64 "
            "or ARM), or set lora_operator: false for the target."
        ) from error
    return CONFIGURED, NATIVE


class Exported:
    """The model in ``folder`` alone, or with the one adapter file.

    ``graph``: of two CONFIGURED, the portable one, or NATIVE, that with native operators, which is loaded by default
    where it runs. Their figures are those of steps that end in ``_onnx`` and ``_operators``.
    """

    _graph, _ending = CONFIGURED, "onnx"

    def __init__(self, folder: Path, adapter: Path | None = None, *, graph: str = CONFIGURED) -> None:
        self._folder = folder
        self._adapters = {ADAPTER: adapter} if adapter else {}
        self._logits = OnnxLogits(folder, self._adapters, provider_of(folder), graph=graph)
        self._model: Model | None = None
        if graph == NATIVE:
            self._graph, self._ending = graph, "operators"

    def measure(self, reference: Scores, top: Top, step: str, name: str, *, adapted: bool) -> Scores:
        """What the reference has of ``step``, computed by ONNX Runtime on the same rows and questions.

        ``name``: the data set's; ``adapted``: with the adapter. The answers are GenAI's.
        """
        scores = self.score(reference.rows, top, step, f"{name}: {step}_{self._ending}", adapted=adapted)
        if not reference.questions:
            return scores
        texts = self.answers(reference, f"{name}: answers of {step}_{self._ending}", adapted=adapted)
        return scores.with_(Scores(scores.rows, answers={f"{step}_{self._ending}": texts}))

    def score(self, rows: list[Row], top: Top, step: str, label: str, *, adapted: bool) -> Scores:
        """Losses, and divergence from the reference's likeliest tokens, of each row."""
        import numpy as np

        count = len(rows)
        nll, divergences, same = [0.0] * count, [0.0] * count, [0] * count
        tops = top.of_rows([len(row.predicted) for row in rows])
        todo = list(batches([len(row.ids) for row in rows], self._logits.vocabulary))
        for batch in progress(todo, label):
            computed = self._logits.batch([rows[number].ids for number in batch], ADAPTER if adapted else None)
            for number, logits in zip(batch, computed, strict=True):
                row = rows[number]
                log_probs = log_softmax(logits[[place - 1 for place in row.predicted]])
                nll[number] = round(-float(log_probs[np.arange(len(log_probs)), row.targets].sum()), 5)
                divergences[number] = round(float(divergence(tops[number], log_probs).sum()), 7)
                same[number] = int((log_probs.argmax(axis=1) == tops[number].ids[:, 0]).sum())
        found = f"{step}_{self._ending}"
        compared = step if self._ending == "onnx" else found
        return Scores(rows, nll={found: nll}, kl_divergence={compared: divergences}, same_top_token={compared: same})

    def answers(self, reference: Scores, label: str, *, adapted: bool) -> list[str]:
        """The greedy answer to each question through GenAI; PressError where the logits are not finite."""
        self._model = self._model or Model(self._folder, self._adapters, template="chat", graph=self._graph)
        self._check_tokens(self._model, reference)
        prompts, sampling = reference.prompts, Sampling(max_new_tokens=reference.answer_tokens)
        found = [""] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        for first in progress(range(0, len(order), TOGETHER), label):
            batch = order[first : first + TOGETHER]
            asked = [prompts[number] for number in batch]
            answers = self._model.answers_to_tokens(asked, ADAPTER if adapted else None, sampling)
            for number, answer in zip(batch, answers, strict=True):
                if not answer.finite:
                    raise PressError(f"{self._folder}: the logits are not finite (NaN or infinite): export it again.")
                found[number] = answer.text
        return found

    def _check_tokens(self, model: Model, reference: Scores) -> None:
        """PressError for a row that GenAI's tokenizer reads otherwise than the one it was trained with."""
        for row, text in zip(reference.rows, reference.texts, strict=False):
            ids = model.tokenizer.encode(text).tolist() if text else row.ids
            if ids != row.ids:
                place = next((n for n, pair in enumerate(zip(ids, row.ids, strict=False)) if pair[0] != pair[1]), 0)
                raise PressError(
                    f"{self._folder}: ONNX Runtime GenAI reads {text[:120]!r} otherwise than transformers, from token "
                    f"{place} on: {ids[place : place + 6]} where training has {row.ids[place : place + 6]}. Choose a "
                    "model with a byte-level BPE tokenizer."
                )


def log_softmax(logits: "np.ndarray") -> "np.ndarray":
    """Log-probabilities of logits [places, vocabulary], float32."""
    import numpy as np

    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
