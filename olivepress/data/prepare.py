"""Rows to prepared rows on two sides, streamed: what is kept in memory of a row are some numbers."""

import hashlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olivepress.core import report
from olivepress.core.errors import PressError
from olivepress.core.jsonl import BadRow
from olivepress.core.prepared import Preference, Prepared, line_of
from olivepress.data.encode import Encoder, batches
from olivepress.data.formats import Pair, Row
from olivepress.data.problems import Problems
from olivepress.data.sources import Source, read_source
from olivepress.data.split import Splitter

SIDES = ("train", "held_out")
METHODS: dict[str, type[Row] | type[Pair]] = {"sft": Row, "dpo": Pair}  # of finetune: what it trains on


@dataclass(frozen=True)
class PrepareSettings:
    """``held_out``: share of the rows. ``similarity``: from which on two rows are near-duplicates. ``sequence_length``:
    tokens that finetune reads of a row; None says nothing about it. ``method``: finetune's, which takes one kind of
    rows; None takes either."""

    held_out: float
    similarity: float = 0.7
    sequence_length: int | None = None
    method: str | None = None


def prepare(source: Source, encoder: Encoder, settings: PrepareSettings, out: Path) -> tuple[dict[str, Any], str]:
    """Write ``train.jsonl`` and ``held_out.jsonl`` into the folder ``out``; returns counts, and the rows' SHA-256.

    PressError names every row that cannot be used, unless they are to be dropped.
    """
    problems = Problems(source.name)
    work = _Work(encoder, settings, problems, Splitter(out, settings.similarity))
    spool = out / "rows"
    try:
        with spool.open("w", encoding="utf-8") as file:
            rows = report.progress(read_source(source, problems), "rows", source.rows)
            for batch in batches(rows):
                for line in work.lines(batch):
                    file.write(line)
        _stop_at(problems, source, len(work.tokens))
        sides = work.splitter.sides(settings.held_out)
        counts = _parted(spool, sides.held_out, out, source.name, settings)
    finally:
        work.splitter.close()
        spool.unlink(missing_ok=True)
    for place, name in enumerate(SIDES):
        counts[name] |= work.counted(sides.held_out == bool(place))
    _say(source.name, work, sides, len(work.tokens))
    counts |= {"near_duplicates": sides.twins, "left_out": problems.count, "cut": work.cut.as_json()}
    return counts, work.digest.hexdigest()


@dataclass
class _Cut:
    """What finetune.sequence_length takes from the rows."""

    rows: int = 0
    tokens: int = 0
    answers: int = 0
    longest: int = 0

    def as_json(self) -> dict[str, int]:
        return {"rows": self.rows, "answer_tokens": self.tokens, "answers": self.answers}


@dataclass
class _Work:
    encoder: Encoder
    settings: PrepareSettings
    problems: Problems
    splitter: Splitter
    cut: _Cut = field(default_factory=_Cut)
    seen: dict[int, int] = field(default_factory=dict)
    digest: Any = field(default_factory=hashlib.sha256)
    tokens: array = field(default_factory=lambda: array("L"))
    answer_tokens: array = field(default_factory=lambda: array("L"))

    def lines(self, rows: list[Row | Pair]) -> list[str]:
        """The prepared rows as lines, the bad ones left out and noted."""
        import xxhash

        good = []
        for row in rows:
            self._check_kind(row)
            said = _bytes_of(row)
            self.digest.update(said)
            key = xxhash.xxh3_64_intdigest(said)
            if key in self.seen:
                first = self.problems.places.unpack(self.seen[key])
                self.problems.add(row.where, f"repeats {first}. Remove one of the two.")
            else:
                self.seen[key] = self.problems.places.pack(row.where)
                good.append(row)
        lines = []
        for row, found in zip(good, self.encoder.encode(good), strict=True):
            try:
                if isinstance(found, BadRow):
                    raise found
                self._measure(found)
            except BadRow as error:
                self.problems.add(row.where, error)
                continue
            self.splitter.add(row)
            lines.append(f"{line_of(found)}\n")
        return lines

    def _check_kind(self, row: Row | Pair) -> None:
        method = self.settings.method
        if method and not isinstance(row, METHODS[method]):
            kind, other = ("preferences", "dpo") if isinstance(row, Pair) else ("answers", "sft")
            raise PressError(
                f"{row.where}: {kind}, but finetune.method is {method}. Set it to {other} for this adapter (lora: "
                f"{{method: {other}}}), or give other data."
            )

    def _measure(self, found: Prepared | Preference) -> None:
        """Count tokens; BadRow if finetune would see nothing of the answer."""
        parts = [found] if isinstance(found, Prepared) else [found.chosen, found.rejected]
        length = self.settings.sequence_length
        lost = answers = 0
        for part in parts if length else []:
            if part.answers[0][0] >= length:
                raise BadRow(
                    f"its answer begins at token {part.answers[0][0] + 1:,}, behind finetune.sequence_length "
                    f"{length:,}: nothing of it would be trained on. Raise that, or shorten the prompt."
                )
            lost += sum(max(end - max(start, length), 0) for start, end in part.answers)
            answers += sum(start >= length for start, _ in part.answers)
        longest = max(len(part.input_ids) for part in parts)
        if lost:
            self.cut.rows += 1
            self.cut.tokens += lost
            self.cut.answers += answers
            self.cut.longest = max(self.cut.longest, longest)
        self.tokens.append(sum(len(part.input_ids) for part in parts))
        self.answer_tokens.append(sum(end - start for part in parts for start, end in part.answers))

    def counted(self, chosen: Any) -> dict[str, int]:
        """Token counts of the rows that ``chosen`` marks."""
        import numpy as np

        tokens, answers = (
            np.frombuffer(numbers, f"u{numbers.itemsize}")[chosen] for numbers in (self.tokens, self.answer_tokens)
        )
        ordered = np.sort(tokens)
        return {
            "tokens": int(tokens.sum()),
            "answer_tokens": int(answers.sum()),
            "median_tokens": int(ordered[len(ordered) // 2]),
            "longest_tokens": int(ordered[-1]),
        }


def _bytes_of(row: Row | Pair) -> bytes:
    """Everything that a row says."""
    said = (row.messages, row.tools) if isinstance(row, Row) else (row.prompt, row.chosen, row.rejected, row.tools)
    return repr(said).encode("utf-8", "surrogatepass")


def _stop_at(problems: Problems, source: Source, good: int) -> None:
    if problems.count and source.bad_rows == "drop" and good:
        report.note(
            f"{problems.name}: {problems.count:,} rows are left out (bad_rows: drop). The first: {problems.shown[0]}"
        )
    else:
        problems.raise_any()
    if not good:
        raise PressError(f"{problems.name}: the data set is empty. Expected rows.")


def _parted(spool: Path, held_out: Any, out: Path, name: str, settings: PrepareSettings) -> dict[str, Any]:
    """The lines of ``spool`` in the files of their sides; the number of rows of each."""
    rows = {"train": int((~held_out).sum()), "held_out": int(held_out.sum())}
    for side, count in rows.items():
        if not count:
            raise PressError(
                f"{name}: {len(held_out)} rows leave none for {side} at prepare.held_out {settings.held_out}: add rows."
            )
    with (
        spool.open("rb") as file,
        (out / "train.jsonl").open("wb") as train,
        (out / "held_out.jsonl").open("wb") as held,
    ):
        for line, is_held in zip(file, held_out, strict=True):
            (held if is_held else train).write(line)
    return {side: {"rows": count} for side, count in rows.items()}


def _say(name: str, work: _Work, sides: Any, rows: int) -> None:
    for what, count in work.encoder.counts.items():
        report.note(f"{name}: {count:,} {what}.")
    if sides.twins:
        report.note(
            f"{name}: {sides.twins:,} of {rows:,} rows are near-duplicates, in {sides.groups:,} groups: each is kept "
            "on one side of the split."
        )
    if sides.apart:
        report.note(
            f"{name}: {sides.apart:,} of {rows:,} rows are alike in most of their words: no side holds them all, so "
            "near-duplicates among them may be on both."
        )
    if work.cut.rows:
        lost = (
            f" {work.cut.answers:,} answers are lost whole, in rows that keep an earlier one."
            if work.cut.answers
            else ""
        )
        report.note(
            f"{name}: {work.cut.rows:,} of {rows:,} rows are longer than finetune.sequence_length "
            f"{work.settings.sequence_length:,} (the longest has {work.cut.longest:,} tokens): {work.cut.tokens:,} of "
            f"{sum(work.answer_tokens):,} answer tokens are cut away.{lost}"
        )
