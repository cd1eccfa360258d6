"""Prepared rows as training data: what counts, what is cut away, how rows share a sequence."""

import pytest

from olivepress.core.errors import PressError
from olivepress.core.prepared import Preference, Prepared
from olivepress.finetune.rows import IGNORED, collate, encode, encode_preferences, pack

# user 1 2 3, assistant 4 5, user 6 7, assistant 8 9, and a line break
TWO_TURNS = Prepared([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [(3, 5), (7, 9)])


def numbered(rows: list) -> dict:
    return dict(enumerate(rows, 1))


def test_answers_alone_count():
    found = encode(numbered([TWO_TURNS]), 16, "answers", "train.jsonl")
    assert found.rows[0]["input_ids"] == TWO_TURNS.input_ids
    assert [label for label in found.rows[0]["labels"] if label != IGNORED] == [4, 5, 8, 9]
    assert found.rows[0]["labels"].index(4) == 3, "a label stands at its token; the Trainer shifts"
    assert found.counts() == {"rows": 1, "tokens": 4, "cut_rows": 0, "cut_answer_tokens": 0}


def test_all_tokens_count_but_the_first_which_nothing_predicts():
    found = encode(numbered([TWO_TURNS]), 16, "all", "train.jsonl")
    assert found.rows[0]["labels"] == [IGNORED, *TWO_TURNS.input_ids[1:]]
    assert found.tokens == 9


def test_long_rows_are_cut_and_counted():
    found = encode(numbered([TWO_TURNS, Prepared([1, 2], [(1, 2)])]), 8, "answers", "train.jsonl")
    assert found.rows[0]["input_ids"] == TWO_TURNS.input_ids[:8]
    assert found.counts() == {"rows": 2, "tokens": 4, "cut_rows": 1, "cut_answer_tokens": 1}


@pytest.mark.parametrize("train_on", ["answers", "all"])
def test_a_row_of_which_no_answer_is_left_is_refused(train_on):
    with pytest.raises(
        PressError, match=r"^train\.jsonl:2: no token of an answer is left within .* 3 \(the row has 10"
    ):
        encode(numbered([Prepared([1, 2], [(1, 2)]), TWO_TURNS]), 3, train_on, "train.jsonl")


def pair(chosen: list[int], rejected: list[int], prompt: int = 2, other: int = 2) -> Preference:
    rows = ((chosen, prompt), (rejected, other))
    return Preference(*(Prepared([*ids, 99], [(start, len(ids))]) for ids, start in rows))


def test_preferences_are_a_prompt_and_two_answers():
    found = encode_preferences(numbered([pair([1, 2, 3], [1, 2, 4, 5, 6])]), 4, "train.jsonl")
    assert found.rows == [{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}]
    assert found.counts() == {"rows": 1, "tokens": 3, "cut_rows": 1, "cut_answer_tokens": 1}


@pytest.mark.parametrize(
    ("row", "length", "message"),
    [
        (pair([1, 2, 3], [1, 9, 4]), 8, "chosen and rejected answer different prompts"),
        (pair([1, 2, 3], [1, 2, 3, 4], other=3), 8, "chosen and rejected answer different prompts"),
        (pair([1, 2, 3], [1, 2, 3]), 8, "chosen and rejected are the same answer"),
        (pair([1, 2, 3], [1, 2, 4]), 2, "the prompt has 2 tokens and leaves no answer within"),
    ],
)
def test_what_is_no_preference_is_refused(row, length, message):
    with pytest.raises(PressError, match=rf"^held_out\.jsonl:1: {message}"):
        encode_preferences(numbered([row]), length, "held_out.jsonl")


def test_a_batch_is_padded_and_its_padding_unseen():
    rows = encode(numbered([TWO_TURNS, Prepared([1, 2, 3], [(1, 3)])]), 16, "answers", "train.jsonl").rows
    batch = collate(rows, padding=7)
    assert batch["input_ids"][1].tolist() == [1, 2, 3, *[7] * 7]
    assert batch["attention_mask"].sum(1).tolist() == [10, 3]
    assert batch["labels"][1].tolist() == [IGNORED, 2, 3, *[IGNORED] * 7]
    assert "logits_to_keep" not in batch


def test_the_logits_that_count_are_those_before_an_answers_tokens_in_any_row():
    rows = encode(numbered([Prepared([1, 2, 3, 4, 5, 6], [(4, 6)]), Prepared([1, 2, 3], [(1, 2)])]), 16, "answers", "x")
    assert collate(rows.rows, padding=7, logits_to_keep=True)["logits_to_keep"].tolist() == [0, 3, 4]


def test_packs_hold_every_row_whole_and_number_it_from_zero():
    rows = encode(
        numbered([Prepared(list(range(1, size)), [(1, size - 1)]) for size in (7, 4, 6, 5)]), 9, "all", "x"
    ).rows
    packs = pack(rows, 9)
    assert sorted(size for found in packs for size in found["seq_lengths"]) == [3, 4, 5, 6]
    assert all(len(found["input_ids"]) <= 9 for found in packs)
    assert sum(label != IGNORED for found in packs for label in found["labels"]) == sum(
        len(row["labels"]) - 1 for row in rows
    )
    batch = collate(packs, padding=0)
    assert "attention_mask" not in batch
    for number, found in enumerate(packs):
        expected = [place for size in found["seq_lengths"] for place in range(size)]
        assert batch["position_ids"][number, : len(expected)].tolist() == expected
        assert (
            batch["position_ids"][number, len(expected) :].tolist()
            == list(range(9 - len(expected)))[: 9 - len(expected)]
        )
