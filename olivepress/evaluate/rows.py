"""Which rows are measured, and on which of their tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from olivepress.core.errors import PressError
from olivepress.core.prepared import spread

LOGITS = 2**26  # of a batch at most: 256 MiB as float32
PADDING = 1 / 8  # on a CPU a place without a token takes as long as one with a token


@dataclass(frozen=True)
class Row:
    """Token ids; ``predicted``: the places of the tokens that count; ``answer``: where the last answer begins."""

    ids: list[int]
    predicted: list[int]
    answer: int

    @property
    def targets(self) -> list[int]:
        """The tokens that count."""
        return [self.ids[place] for place in self.predicted]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, ids: list[int], answers: Sequence[tuple[int, int]], length: int) -> Self:
        """A prepared row cut to ``length`` tokens. The very first token of a text is predicted by nothing."""
        predicted = [place for start, end in answers for place in range(max(start, 1), min(end, length))]
        return cls(ids[:length], predicted, answers[-1][0])


def chosen(rows: Sequence[Row], limit: int, what: str) -> list[Row]:
    """At most ``limit`` of the rows that have a token to predict, evenly spread; PressError about ``what`` if none."""
    measurable = [row for row in rows if row.predicted]
    if not measurable:
        raise PressError(
            f"{what}: none of the {len(rows)} rows has a token of an answer within evaluate.sequence_length: there is "
            "nothing to predict. Raise it, or shorten the prompts."
        )
    return spread(measurable, limit)


def batches(lengths: Sequence[int], vocabulary: int) -> Iterator[list[int]]:
    """Numbers of rows, those of like length together, so that a batch's logits stay within LOGITS and of its places at
    most the share PADDING is computed for nothing."""
    order = sorted(range(len(lengths)), key=lambda number: lengths[number])
    batch: list[int] = []
    tokens = 0
    for number in order:
        places = (len(batch) + 1) * lengths[number]
        if batch and (places * vocabulary > LOGITS or places - tokens - lengths[number] > PADDING * places):
            yield batch
            batch, tokens = [], 0
        batch.append(number)
        tokens += lengths[number]
    if batch:
        yield batch
