"""What PyTorch computes of each step, once for all targets, and keeps for what ONNX Runtime is held to."""

from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.jsonl import read_objects
from olivepress.core.prepared import Prepared, read_preferences, read_prepared, spread
from olivepress.core.template import render_prompt
from olivepress.evaluate.pytorch import TorchModel
from olivepress.evaluate.rows import Row, chosen
from olivepress.evaluate.scores import SCORES, TOP, Question, Scores, Top, save_top

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Measured:
    """A data set, and what the steps have scored on it so far."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.tops: dict[str, Top] = {}

    def add(self, model: TorchModel, step: str, name: str, tokenizer: "PreTrainedTokenizerBase | None" = None) -> None:
        """Score the rows with ``model``; with ``tokenizer`` also answer the questions. ``name``: the data set's."""
        scores, self.tops[step] = model.score(self.scores.rows, step, f"{name}: {step}")
        self.scores = self.scores.with_(scores)
        if tokenizer and self.scores.questions:
            most = self.scores.answer_tokens
            answers = model.answers(self.scores.prompts, most, tokenizer, f"{name}: answers of {step}")
            self.scores = self.scores.with_(Scores(scores.rows, answers={step: answers}))

    def save(self, folder: Path, steps: tuple[str, ...]) -> None:
        """Write the scores to the new ``folder``, with the likeliest tokens of ``steps``, which are exported."""
        folder.mkdir(parents=True)
        self.scores.save(folder / SCORES)
        save_top(folder / TOP, {step: self.tops[step] for step in steps})


def measured(
    prepared: list[Prepared],
    tokenizer: "PreTrainedTokenizerBase",
    template: str,
    *,
    what: str,
    sequence_length: int,
    limit: int,
    generate_rows: int,
    answer_tokens: int,
) -> Measured:
    """A data set of which nothing is measured yet; ``what`` names it where it has nothing to measure.

    ``limit`` of its rows, cut to ``sequence_length`` tokens, and ``generate_rows`` of these as questions, with at most
    ``answer_tokens`` tokens of reference and answers.
    """
    every = [Row.of(row.input_ids, row.answers, sequence_length) for row in prepared]
    rows = chosen(every, limit, what)
    # a prompt that fills the row leaves no answer to compare with
    asked = [number for number, row in enumerate(rows) if 0 < row.answer < len(row.ids)]
    before, after = frame(tokenizer, template)
    questions = []
    for number in spread(asked, generate_rows):
        row = rows[number]
        answer = row.ids[row.answer :][:answer_tokens]
        prompt = tokenizer.decode(row.ids[: row.answer])
        if prompt.startswith(before) and prompt.endswith(after):
            prompt = prompt[len(before) : len(prompt) - len(after)]
        else:
            prompt = tokenizer.decode(row.ids[: row.answer], skip_special_tokens=True)
        reference = tokenizer.decode(answer, skip_special_tokens=True)
        questions.append(Question(number, prompt.strip(), reference))
    texts = [tokenizer.decode(row.ids, clean_up_tokenization_spaces=False) for row in rows]
    again = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    texts = [text if ids == row.ids else "" for text, ids, row in zip(texts, again, rows, strict=True)]
    return Measured(Scores(rows, answer_tokens, questions, texts=texts))


def frame(tokenizer: "PreTrainedTokenizerBase", template: str) -> tuple[str, str]:
    """What the template writes before and after a single question."""
    probe = "QUESTION"
    if template == "chat":
        asked = [{"role": "user", "content": probe}]
        text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    else:
        text = render_prompt(template, probe)
    before, _, after = text.partition(probe)
    return before, after


def held_out(path: Path) -> list[Prepared]:
    """Held-out rows as prepare wrote them; of preferences, the answers that are preferred."""
    first = next((value for _, value in read_objects(path)), {})
    return [each.chosen for each in read_preferences(path)] if "chosen" in first else read_prepared(path)
