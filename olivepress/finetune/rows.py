"""Prepared rows as what a model is trained on: token ids and labels, cut, packed and padded to batches.

A label is the token itself where it counts, and IGNORED where it does not: in the template and in what the user
writes, if answers alone are trained on. The first token of a row never counts: nothing predicts it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError
from olivepress.core.prepared import Preference, Prepared, answer_mask

if TYPE_CHECKING:
    import torch

IGNORED = -100  # PyTorch's cross entropy passes over it

Row = dict[str, list[int]]  # input_ids and labels, of one length; of a pack seq_lengths, too


@dataclass(frozen=True)
class Rows:
    """Rows of one side, of answers or of preferences (prompt_ids, chosen_ids, rejected_ids).

    ``cut`` of them are longer than ``sequence_length`` and lost ``lost`` tokens of their answers.
    """

    rows: list[Row]
    cut: int
    lost: int
    tokens: int  # that count in a loss

    def counts(self) -> dict[str, int]:
        """The same in numbers, for a metrics file."""
        return {"rows": len(self.rows), "tokens": self.tokens, "cut_rows": self.cut, "cut_answer_tokens": self.lost}


def encode(prepared: dict[int, Prepared], length: int, train_on: str, where: str) -> Rows:
    """Rows cut to ``length`` tokens, with labels on the ``answers``, or on ``all`` tokens.

    Raises PressError for a row of which no answer is left, by its number in ``where``, "train.jsonl".
    """
    rows, cut, lost, tokens = [], 0, 0, 0
    for number, row in prepared.items():
        mask = answer_mask(row)
        kept = mask[1:length]
        if not any(kept):
            raise PressError(
                f"{where}:{number}: no token of an answer is left within finetune.sequence_length {length} (the row "
                f"has {len(mask)} tokens). Raise it, or shorten or take out that row in the data."
            )
        if len(mask) > length:
            cut, lost = cut + 1, lost + sum(mask[length:])
        ids = row.input_ids[:length]
        counts = kept if train_on == "answers" else [True] * len(kept)
        labels = [token if count else IGNORED for token, count in zip(ids[1:], counts, strict=True)]
        rows.append({"input_ids": ids, "labels": [IGNORED, *labels]})
        tokens += sum(counts)
    return Rows(rows, cut, lost, tokens)


def encode_preferences(pairs: dict[int, Preference], length: int, where: str) -> Rows:
    """Rows as trl takes them: a prompt and two last answers to it, cut to ``length`` tokens together.

    Raises PressError where the two prompts differ, or no answer is left, for the row by its number in ``where``.
    """
    rows, cut, lost, tokens = [], 0, 0, 0
    for number, pair in pairs.items():
        (start, end), (other, other_end) = pair.chosen.answers[-1], pair.rejected.answers[-1]
        prompt = pair.chosen.input_ids[:start]
        if prompt != pair.rejected.input_ids[:other]:
            raise PressError(
                f"{where}:{number}: chosen and rejected answer different prompts. Write them as answers to one."
            )
        if start >= length:
            raise PressError(
                f"{where}:{number}: the prompt has {start} tokens and leaves no answer within "
                f"finetune.sequence_length {length}. Raise it, or shorten or take out that row in the data."
            )
        answers = (pair.chosen.input_ids[start:end], pair.rejected.input_ids[start:other_end])
        kept = [ids[: length - start] for ids in answers]
        if answers[0] == answers[1]:
            raise PressError(
                f"{where}:{number}: chosen and rejected are the same answer. Take out that row in the data."
            )
        rows.append({"prompt_ids": prompt, "chosen_ids": kept[0], "rejected_ids": kept[1]})
        missing = sum(map(len, answers)) - sum(map(len, kept))
        cut, lost, tokens = cut + bool(missing), lost + missing, tokens + sum(map(len, kept))
    return Rows(rows, cut, lost, tokens)


def pack(rows: list[Row], length: int) -> list[Row]:
    """Several rows to a sequence of at most ``length`` tokens, by trl's best fit decreasing; no row is cut.

    Each has ``seq_lengths``, the tokens of its rows in turn.
    """
    from datasets import Dataset
    from trl import pack_dataset

    return pack_dataset(Dataset.from_list(rows), length, strategy="bfd").to_list()


def length(row: Row) -> int:
    """Tokens of a row, of a pack of them, or of the longer half of a preference."""
    if "input_ids" in row:
        return len(row["input_ids"])
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def collate(batch: list[Row], padding: int, *, logits_to_keep: bool = False) -> "dict[str, torch.Tensor]":
    """A batch [rows, tokens], padded on the right with the token ``padding``.

    Packed rows get no attention mask, but positions that start anew with each: transformers makes a mask of that which
    keeps rows from seeing each other (``find_packed_sequence_indices``). Padding is one more row there.
    ``logits_to_keep`` adds the positions whose logits count, for a model that takes them: no others are computed.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(name: str, value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row[name]) for row in batch], batch_first=True, padding_value=value)

    found = {"input_ids": padded("input_ids", padding), "labels": padded("labels", IGNORED)}
    width = found["input_ids"].shape[1]
    if "seq_lengths" in batch[0]:
        rows = [[*row["seq_lengths"], width - sum(row["seq_lengths"])] for row in batch]
        found["position_ids"] = torch.stack([torch.cat([torch.arange(size) for size in sizes]) for sizes in rows])
    else:
        lengths = torch.tensor([len(row["input_ids"]) for row in batch])
        found["attention_mask"] = (torch.arange(width) < lengths[:, None]).long()
    if logits_to_keep:
        found["logits_to_keep"] = counted(following(found["labels"]))
    return found


def following(labels: "torch.Tensor") -> "torch.Tensor":
    """What each position is to predict: ``labels`` [rows, tokens], one to the left."""
    import torch

    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)


def counted(targets: "torch.Tensor") -> "torch.Tensor":
    """The positions, in order, where the prediction of some row counts; ``targets`` [rows, tokens]."""
    return (targets != IGNORED).any(0).nonzero()[:, 0]
