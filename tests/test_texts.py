"""The texts in data/: enough of them, valid, unlike one another, and none in two files."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from datasketch import MinHash, MinHashLSH
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

from olivepress.core.jsonl import read_objects
from olivepress.quantize.calibration import calibration_blocks
from tools import make_general, make_tiny_adapters

DATA = Path(__file__).parents[1] / "data"
ASKING = ("general", "travel", "cooking")
LEAST = {"general": 500, "travel": 368, "cooking": 384, "general-tiny": 160}  # rows
# Jaccard similarity of the sets of words and pairs of words: 0.4 at most occurs, a row with a tenth of its words
# exchanged has 0.7.
ALIKE = 0.5


def rows(name: str) -> list[dict]:
    return [row for _, row in read_objects(DATA / f"{name}.jsonl")]


def text(row: dict) -> str:
    return row["text"] if "text" in row else f"{row['prompt']}\n{row['response']}"


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def parts(text: str) -> set[str]:
    found = words(text)
    return {*found, *(" ".join(pair) for pair in pairwise(found))}


def jaccard(one: set, other: set) -> float:
    return len(one & other) / len(one | other)


def sketch(parts: set[str]) -> MinHash:
    found = MinHash(128, seed=1)
    found.update_batch([part.encode() for part in sorted(parts)])
    return found


def twins(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of names whose texts are alike: candidates by MinHash, held to their exact similarity."""
    index = MinHashLSH(threshold=ALIKE - 0.15, num_perm=128)  # well below, so that none at ALIKE is missed
    seen: dict[str, set[str]] = {}
    found = []
    for name, content in texts.items():
        mine = parts(content)
        hashes = sketch(mine)
        found += [(other, name) for other in index.query(hashes) if jaccard(mine, seen[other]) >= ALIKE]
        index.insert(name, hashes)
        seen[name] = mine
    return found


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """File and line of every row -> what it says."""
    names = (*ASKING, "calibration")
    return {f"{name}:{line}": text(row) for name in names for line, row in enumerate(rows(name), 1)}


@pytest.mark.parametrize(("name", "least"), LEAST.items())
def test_questions_are_many_whole_and_asked_once(name, least):
    found = rows(name)
    assert len(found) >= least
    for line, row in enumerate(found, 1):
        assert set(row) == {"prompt", "response"}, f"{name}:{line}"
        for part in row.values():
            assert part == part.strip(), f"{name}:{line}: blanks around a text"
            assert part, f"{name}:{line}: empty"
            assert not re.search(r"<\|[^|]*\|>|[\x00-\x08\x0b-\x1f]", part), f"{name}:{line}: control characters"
    asked = Counter(" ".join(words(row["prompt"])) for row in found)
    assert [prompt for prompt, times in asked.items() if times > 1] == []


def test_no_row_is_nearly_the_same_as_another_in_any_file(texts):
    assert twins(texts) == []


def test_a_row_told_again_with_a_few_other_words_would_be_noticed(texts):
    said = texts["general:3"].split()
    again = " ".join("otherwise" if place % 10 == 4 else word for place, word in enumerate(said))
    assert twins({**texts, "again": again}) == [("general:3", "again")]


def test_no_general_question_asks_nearly_the_words_of_another():
    prompts = [(f"{name}:{n}", set(words(row["prompt"]))) for name in ASKING for n, row in enumerate(rows(name), 1)]
    general = [one for one in prompts if one[0].startswith("general:")]
    close = {
        tuple(sorted((one, other)))
        for one, mine in general
        for other, its in prompts
        if one != other and jaccard(mine, its) >= 0.75
    }
    assert close == set()


def test_general_questions_are_not_of_one_mould():
    """Made by a template, or all on one subject, they would fail several of these."""
    found = rows("general")
    asked = [words(row["prompt"]) for row in found]
    assert len({prompt[0] for prompt in asked}) >= 70
    assert Counter(tuple(prompt[:3]) for prompt in asked).most_common(1)[0][1] <= 0.08 * len(found)
    assert len({word for row in found for word in words(text(row))}) >= 3500
    assert sum("?" not in row["prompt"] for row in found) >= 0.25 * len(found), "orders and remarks"
    assert sum(row["prompt"][0].islower() for row in found) >= 40, "typed in haste"
    subjects = Counter(word for prompt in asked for word in set(prompt) if len(word) > 5)
    assert subjects.most_common(1)[0][1] <= 0.04 * len(found)


def test_general_answers_are_of_every_length():
    lengths = [len(row["response"].split()) for row in rows("general")]
    share = {limit: sum(length <= limit for length in lengths) / len(lengths) for limit in (3, 15, 40)}
    assert 0.1 <= share[3] <= 0.3
    assert 0.4 <= share[15] <= 0.6
    assert 0.65 <= share[40] <= 0.85
    assert 90 <= max(lengths) <= 130


def test_calibration_fills_96_blocks_of_512_for_any_tokenizer_of_its_kind():
    """Byte-level BPE (GPT-2's, SmolLM2's) never joins two pieces of this cut, so there are at least as many tokens."""
    cut = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])

    class Pieces:
        """The fewest tokens that such a tokenizer can make of a text."""

        eos_token_id = 0
        chat_template = None

        def encode(self, text, *, add_special_tokens):
            return [1] * len(cut.pre_tokenize_str(text))

    found = calibration_blocks(DATA / "calibration.jsonl", Pieces(), samples=96, sequence_length=512, seed=0)
    assert len(found) == 96


@pytest.mark.parametrize(
    ("kind", "pattern", "least"),
    [
        ("code", r"(?m)^(def |class |import |package |function|#include|SELECT |use std)", 10),
        ("tables", r"(?m)^\| ?---", 5),
        ("talk with an assistant", r"(?m)^User: .*\n+Assistant: ", 20),
        ("letters", r"(?m)^(Dear|Hi|Hello|Lieber|Querida|Cara|Bonjour)\b", 15),
        ("sums", r"^Problem: ", 30),
        ("lists", r"(?m)^- .*\n- ", 3),
        ("other languages", r"(?i)\b(und|nicht|dans|est|della|che|não|uma|los|una|niet|och|nie)\b", 15),
        ("other scripts", r"[\u0400-\u04ff\u3040-\u30ff\u4e00-\u9fff]", 1),
    ],
)
def test_calibration_has_every_kind_of_text(kind, pattern, least):
    assert sum(bool(re.search(pattern, row["text"])) for row in rows("calibration")) >= least, kind


def test_the_tiny_bases_questions_are_what_the_tool_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(make_general, "OUT", tmp_path / "general-tiny.jsonl")
    make_general.main()
    assert make_general.OUT.read_bytes() == (DATA / "general-tiny.jsonl").read_bytes()


def test_the_tiny_adapters_data_are_what_the_tool_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(make_tiny_adapters, "DATA", tmp_path)
    make_tiny_adapters.main()
    for name in ("travel-tiny.jsonl", "cooking-tiny.jsonl"):
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


@pytest.mark.parametrize("name", [*LEAST, "calibration"])
def test_letters_outside_ascii_stand_as_themselves(name):
    """So that a diff can be read."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows(name)]
    assert (DATA / f"{name}.jsonl").read_text("utf-8") == "\n".join(lines) + "\n"
