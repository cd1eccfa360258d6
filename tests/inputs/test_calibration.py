"""Calibration blocks: exact shape, seeded order, and a clear message when there is too little text."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from olivepress.core.errors import PressError
from olivepress.quantize.calibration import calibration_blocks

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data/calibration.jsonl"


class Words:
    """One token a word; token 0 ends a text."""

    eos_token_id: int | None = 0
    chat_template: str | None = None

    def encode(self, text, *, add_special_tokens):
        assert not add_special_tokens
        return [int(word) for word in text.split()]


class Tiny:
    """The tiny model's tokenizer, without importing transformers."""

    eos_token_id = 0
    chat_template = None

    def __init__(self):
        self.tokenizer = Tokenizer.from_file(str(ROOT / "data/tiny-phi3/tokenizer.json"))

    def encode(self, text, *, add_special_tokens):
        return self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids


@pytest.fixture
def write(tmp_path):
    def write(*rows: dict):
        path = tmp_path / "calibration.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def blocks(path, tokenizer=None, samples=4, sequence_length=32, seed=0):
    return calibration_blocks(path, tokenizer or Words(), samples=samples, sequence_length=sequence_length, seed=seed)


def test_blocks_have_the_exact_shape():
    found = blocks(DATA, Tiny(), samples=7, sequence_length=33)
    assert [len(block) for block in found] == [33] * 7
    assert all(isinstance(token, int) and 0 <= token < 2048 for block in found for token in block)


def test_the_same_seed_gives_the_same_blocks_and_another_seed_others():
    assert blocks(DATA, Tiny(), seed=3) == blocks(DATA, Tiny(), seed=3)
    assert blocks(DATA, Tiny(), seed=3) != blocks(DATA, Tiny(), seed=4)


def test_texts_are_joined_by_the_end_token_and_cut(write):
    path = write({"text": "1 1 1 1 1"}, {"text": "2 2"})
    found = blocks(path, samples=3, sequence_length=3)
    assert [token for block in found for token in block] in ([1, 1, 1, 1, 1, 0, 2, 2, 0], [2, 2, 0, 1, 1, 1, 1, 1, 0])


def test_a_tokenizer_without_end_token(write):
    tokenizer = Words()
    tokenizer.eos_token_id = None
    assert blocks(write({"text": "1 2 3 4"}), tokenizer, samples=2, sequence_length=2) == [[1, 2], [3, 4]]


def test_a_surplus_is_left_out(write):
    assert blocks(write({"text": "1 2 3 4 5 6"}), samples=1, sequence_length=2) == [[1, 2]]


def test_a_question_and_its_answer_are_written_as_the_model_is_talked_to(write):
    class Talker(Words):
        chat_template = "there is one"

        def apply_chat_template(self, turns, *, tokenize):
            assert not tokenize
            return " ".join(f"{8 if turn['role'] == 'user' else 9} {turn['content']}" for turn in turns)

    path = write({"prompt": "1 2", "response": "3"})
    assert blocks(path, Talker(), samples=1, sequence_length=6) == [[8, 1, 2, 9, 3, 0]]
    with pytest.raises(PressError, match=r"calibration.jsonl:1"):
        blocks(write({"prompt": "1 2"}), Talker())


def test_talk_to_calibrate_on_is_as_long_as_the_articles():
    rows = [json.loads(line) for line in (ROOT / "data/calibration-talk.jsonl").read_text().splitlines()]
    talk = [row for row in rows if "prompt" in row]
    tiny = [json.loads(line) for line in (ROOT / "data/general-tiny.jsonl").read_text().splitlines()]
    articles = [json.loads(line) for line in DATA.read_text().splitlines()]
    assert sorted(map(str, talk)) == sorted(map(str, tiny))
    assert all(row in articles for row in rows if "text" in row)
    template = 150 * len(talk)  # letters of SmolLM2's template around a row
    letters = sum(len(row["prompt"] + row["response"]) for row in talk) + template
    assert sum(len(row["text"]) for row in rows if "text" in row) == pytest.approx(letters, rel=0.05)


def test_prompt_and_response_rows_are_taken_too(write):
    path = write({"prompt": "1 2", "response": "3"})
    assert blocks(path, samples=1, sequence_length=4) == [[1, 2, 3, 0]]


def test_seed_changes_the_order_of_rows(write):
    path = write(*({"text": str(n)} for n in range(1, 21)))
    orders = {tuple(blocks(path, samples=1, sequence_length=40, seed=seed)[0]) for seed in range(3)}
    assert len(orders) == 3
    assert {tuple(sorted(order)) for order in orders} == {(*[0] * 20, *range(1, 21))}


def test_too_little_data_names_what_is_there_and_what_is_needed(write):
    path = write({"text": " ".join(["5"] * 1200)}, {"text": "6"})
    with pytest.raises(PressError) as caught:
        blocks(path, samples=64, sequence_length=128)
    message = caught.value.format_message()
    assert message.startswith(f"{path}: too little calibration data: 1,203 tokens in 2 rows, but ")
    assert "64 samples of 128 need 8,192." in message
    assert "lower quantize.samples to 9 or quantize.sequence_length" in message


def test_following_the_message_works(write):
    path = write({"text": " ".join(["5"] * 1200)}, {"text": "6"})
    assert len(blocks(path, samples=9, sequence_length=128)) == 9


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": ""}, "field 'text' is empty"),
        ({"text": 3}, "field 'text' is a int, expected a string"),
        ({"prompt": "1"}, "field 'response' is missing"),
        ({"content": "1"}, "field 'prompt' is missing (found 'content')"),
    ],
)
def test_bad_rows_are_named(write, row, expected):
    path = write({"text": "1"}, row)
    with pytest.raises(PressError) as caught:
        blocks(path)
    assert f"{path}:2: {expected}" in caught.value.format_message()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for m in messages %}", ":2: the model's chat template cannot render the row: Unexpected end of template"),
        ("{{ raise_exception('not this') }}", ":2: the model's chat template cannot render the row: not this"),
        ("{{ nope() }}", ":2: the model's chat template cannot render the row: 'nope' is undefined"),
        ("{{ 'x' * 999999 }}", ":2: the model's chat template writes 999,999 characters"),
        ("{{ 'x' * 99999999999 }}", "the model's chat template takes more than"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "does not end within"),
        ("{% set n = messages | length + 7 %}{{ n**(n**n) }}", "does not end within"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_in_bounded_time(write, monkeypatch, template, expected):
    from transformers import AutoTokenizer

    from olivepress.core import limits

    monkeypatch.setattr(limits, "SECONDS", 0.5)
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "data/tiny-phi3")
    tokenizer.chat_template = template
    path = write({"text": "as it is"}, {"prompt": "a", "response": "b"})
    with pytest.raises(PressError) as caught:
        blocks(path, tokenizer)
    assert caught.value.message.startswith(str(path)) and expected in caught.value.message
