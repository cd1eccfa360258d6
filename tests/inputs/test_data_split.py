"""The split: by content, stable, and no two rows that are nearly the same on different sides."""

import random

import pytest

from olivepress.data.formats import Pair, Row, row_of
from olivepress.data.split import Splitter, fraction, prompt_of

TEXT = """
the river bends past old mills where millers once ground wheat and rye into flour for every village nearby while
children swam below weirs in summer and skated over frozen pools each winter until engines replaced wheels turning
slowly under mossy beams of oak cut from forests that no longer stand between these hills and distant grey sea
"""
WORDS = TEXT.split()


def rows_of(count: int, seed: int = 0) -> list[Row]:
    chance = random.Random(seed)
    return [row_of(" ".join(chance.sample(WORDS, 9)), " ".join(chance.sample(WORDS, 12))) for _ in range(count)]


@pytest.fixture
def sides(tmp_path):
    def sides(rows, held_out: float, similarity: float = 0.7):
        splitter = Splitter(tmp_path, similarity)
        for row in rows:
            splitter.add(row)
        found = splitter.sides(held_out)
        splitter.close()
        assert not list(tmp_path.iterdir())
        return found

    return sides


def held(rows, found) -> set[str]:
    return {prompt_of(row) for row, is_held in zip(rows, found.held_out, strict=True) if is_held}


def test_a_row_without_twins_goes_where_its_prompt_says(sides):
    rows = rows_of(400)
    found = sides(rows, 0.25)
    assert (found.twins, found.groups, found.apart) == (0, 0, 0)
    assert held(rows, found) == {prompt_of(row) for row in rows if fraction(prompt_of(row)) < 0.25}
    assert 60 <= found.held_out.sum() <= 140


def test_the_rule_is_known_by_value(sides):
    """A change of it would silently move rows across: pin a few."""
    rows = [row_of(f"question {n}", f"answer {n}") for n in range(20)]
    expected = {"question 1", "question 8", "question 11", "question 13", "question 18", "question 19"}
    assert held(rows, sides(rows, 0.3)) == expected


def twins_of(row: Row) -> list[Row]:
    prompt, answer = (message["content"] for message in row.messages)
    return [
        row_of(prompt.upper() + "!", answer),
        row_of(prompt, "something else altogether"),
        row_of(prompt + " please", answer),
        row_of("Well, " + prompt, answer + "."),
        row_of(prompt, answer.replace(answer.split()[3], "whatever")),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_are_on_one_side(sides, seed):
    rows = rows_of(150, seed)
    groups = [[row, *twins_of(row)] for row in rows]
    mixed = [row for group in groups for row in group]
    random.Random(seed).shuffle(mixed)
    found = sides(mixed, 0.3)
    side = {id(row): is_held for row, is_held in zip(mixed, found.held_out, strict=True)}
    assert all(len({side[id(row)] for row in group}) == 1 for group in groups)
    assert found.groups == 150
    assert 0.15 < found.held_out.mean() < 0.45, "groups leave the share as it is"


def test_without_a_similarity_only_equal_prompts_stay_together(sides):
    rows = [twin for row in rows_of(50) for twin in (row, *twins_of(row))]
    found = sides(rows, 0.5, similarity=1)
    assert found.twins == 0
    groups = [found.held_out[n * 6 + place] for n in range(50) for place in (0, 1, 2, 5)]
    assert all(len(set(groups[n : n + 4])) == 1 for n in range(0, 200, 4))


def test_order_changes_nothing_and_few_rows_move_when_rows_are_added(sides):
    rows = [twin for row in rows_of(100) for twin in (row, *twins_of(row)[2:4])]
    found = sides(rows, 0.3)
    order = random.Random(1).sample(range(300), 300)
    again = sides([rows[n] for n in order], 0.3)
    assert [found.held_out[n] for n in order] == list(again.held_out)
    more = sides([*rows_of(200, seed=9), *rows], 0.3)
    assert list(more.held_out[200:]) == list(found.held_out), "strangers move nobody"
    joined = sides([*rows, *(twins_of(row)[4] for row in rows[::3])], 0.3)
    assert (joined.held_out[:300] != found.held_out).mean() < 0.2


def test_a_greater_share_only_adds_to_the_held_out_side(sides):
    rows = rows_of(300)
    assert held(rows, sides(rows, 0.1)) < held(rows, sides(rows, 0.4))


def test_rows_that_share_nearly_all_their_words_are_split_all_the_same(sides):
    text = " ".join(WORDS)
    rows = [row_of(f"{text} {n}", text) for n in range(100)]
    found = sides(rows, 0.3)
    assert found.apart == 100
    assert 0 < found.held_out.sum() < 100


def test_texts_without_blanks_and_without_letters(sides):
    rows = [row_of("川は古い水車小屋の前を曲がって流れる" + "春夏秋冬"[n] * 2, "はい") for n in range(4)]
    assert sides(rows, 0.5).twins == 4 or len(set(sides(rows, 0.5).held_out)) == 1
    signs = [row_of("?" * (n + 1), "!" * (n + 1)) for n in range(40)]
    assert sides(signs, 0.5).twins == 0


def test_conversations_and_preferences():
    talk = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    assert prompt_of(Row("x", [*talk, talk[1]])) == "a\nc"
    assert prompt_of(Pair("x", talk, [talk[1]], [talk[1]])) == "a\nc"
