"""Prepared rows, in files between the stages: token ids, and which of them the assistant writes.

What the assistant writes (its end-of-turn token included, so that a model learns to stop) is found on tokens: by the
template's own ``{% generation %}`` blocks where it has them, else by rendering the conversation up to each of the
assistant's turns as it is rendered for an answer. These tokens have to begin the whole row: what the model is asked
with is then what it was trained on.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from olivepress.core.errors import PressError
from olivepress.core.jsonl import read_objects

Item = TypeVar("Item")


@dataclass(frozen=True)
class Prepared:
    """A row as token ids, and the spans [start, end) of what the assistant writes, in order, the last answer last."""

    input_ids: list[int]
    answers: list[tuple[int, int]]

    def as_json(self) -> dict[str, Any]:
        return {"input_ids": self.input_ids, "answers": [list(span) for span in self.answers]}

    @classmethod
    def of(cls, value: Any, where: str) -> Self:
        """What ``as_json`` gave; PressError for anything else."""
        try:
            ids, spans = value["input_ids"], [(start, end) for start, end in value["answers"]]
            ends = [0, *(edge for span in spans for edge in span), len(ids)]
            if not spans or ends != sorted(ends) or not all(type(number) is int for number in [*ids, *ends]):
                raise ValueError
            return cls(ids, spans)
        except (TypeError, ValueError, KeyError) as error:
            raise PressError(f"{where}: no prepared row of token ids and answers. Run `dvc repro prepare`.") from error


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, the better one first."""

    chosen: Prepared
    rejected: Prepared

    def as_json(self) -> dict[str, Any]:
        return {"chosen": self.chosen.as_json(), "rejected": self.rejected.as_json()}


def answer_mask(row: Prepared) -> list[bool]:
    """For each token of ``row`` whether the assistant writes it."""
    mask = [False] * len(row.input_ids)
    for start, end in row.answers:
        mask[start:end] = [True] * (end - start)
    return mask


def read_prepared(path: Path) -> list[Prepared]:
    """The rows of a prepared file (train.jsonl, held_out.jsonl); PressError for one of preferences."""
    rows = []
    for where, value in read_objects(path):
        if "chosen" in value:
            raise PressError(f"{where}: preferences, expected answers. Set finetune.method to dpo, or give other data.")
        rows.append(Prepared.of(value, where))
    return rows


def read_preferences(path: Path) -> list[Preference]:
    """The rows of a prepared file of preferences; PressError for one of answers."""
    rows = []
    for where, value in read_objects(path):
        if "chosen" not in value or "rejected" not in value:
            raise PressError(f"{where}: no preference (chosen and rejected). Give such data, or another method.")
        rows.append(Preference(Prepared.of(value["chosen"], where), Prepared.of(value["rejected"], where)))
    return rows


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most ``limit`` items, evenly spaced from the first on, in order, always the same.

    A file is often ordered (by subject, by source), so that its first rows would stand for a part of it.
    """
    count = min(limit, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def write_prepared(path: Path, rows: Iterable[Prepared | Preference]) -> None:
    """Write rows, one a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line_of(row)}\n" for row in rows)


def line_of(row: Prepared | Preference) -> str:
    return json.dumps(row.as_json(), separators=(",", ":"))


def spans_of(mask: Iterable[int | bool]) -> Iterator[tuple[int, int]]:
    """The spans [start, end) of a mask."""
    start, place = None, -1
    for place, inside in enumerate(mask):
        if inside and start is None:
            start = place
        elif not inside and start is not None:
            yield start, place
            start = None
    if start is not None:
        yield start, place + 1
