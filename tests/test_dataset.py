"""Data sets: every way a row can be wrong is named with its line, and the split depends on content alone."""

import json
import random

import pytest

from olivepress.dataset import (
    Row,
    check_template,
    read_objects,
    read_rows,
    read_texts,
    render,
    render_prompt,
    split,
    unescape,
)
from olivepress.errors import PressError

GOOD = '{"prompt": "Where is Oslo?", "response": "In Norway."}'
ROWS = [Row(f"question {i}", f"answer {i}") for i in range(400)]


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "rows.jsonl"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def error(function, *arguments) -> str:
    with pytest.raises(PressError) as caught:
        function(*arguments)
    return caught.value.format_message()


def test_good_rows_are_read_in_order_and_blank_lines_are_skipped(write):
    path = write('\n{"prompt": "b", "response": "é"}\r\n  \n{"response": "2", "prompt": "a", "more": 1}\n')
    assert read_rows(path) == [Row("b", "é"), Row("a", "2")]


def test_places_count_blank_lines_as_an_editor_does(write):
    path = write(f"\n{GOOD}\n\n{GOOD}")
    assert [place for place, _ in read_objects(path)] == [f"{path}:2", f"{path}:4"]


def test_a_unicode_line_separator_inside_a_string_does_not_split_the_row(write):
    assert read_rows(write('{"prompt": "a\u2028b\x85c", "response": "r"}\n')) == [Row("a\u2028b\x85c", "r")]


def test_broken_json_names_line_and_column(write):
    path = write(f'{GOOD}\n\n{{"prompt": "x" "response": "y"}}\n')
    message = error(read_rows, path)
    assert message.startswith(f"{path}:3: column 16: broken JSON (Expecting ',' delimiter)")
    assert "one object a line" in message


def test_a_line_that_is_no_object_is_named(write):
    path = write(f"{GOOD}\n[1]\n")
    assert error(read_rows, path) == f"{path}:2: found list, expected a JSON object with fields."


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"prompt": "p", "answer": "r"}', "field 'response' is missing (found 'prompt', 'answer')"),
        ("{}", "field 'prompt' is missing (found no fields)"),
        ('{"prompt": "p", "response": ""}', "field 'response' is empty"),
        ('{"prompt": " \\n\\t", "response": "r"}', "field 'prompt' is empty"),
        ('{"prompt": 7, "response": "r"}', "field 'prompt' is a int, expected a string"),
        ('{"prompt": "p", "response": null}', "field 'response' is a NoneType, expected a string"),
        (
            r'{"prompt": "a\ud83d", "response": "r"}',
            "field 'prompt': character 2 is half of a surrogate pair (\\ud83d)",
        ),
        ('{"prompt": "p", "response": ["r"]}', "field 'response' is a list, expected a string"),
    ],
)
def test_bad_fields_name_line_and_field(write, line, expected):
    path = write(f"{GOOD}\n{line}\n")
    assert error(read_rows, path).startswith(f"{path}:2: {expected}")


def test_a_byte_that_is_not_utf8_is_named_with_its_line_and_position(write):
    path = write(GOOD.encode() + b'\n{"prompt": "caf\xe9", "response": "r"}\n')
    message = error(read_rows, path)
    assert message.startswith(f"{path}:2: byte 16 of the line is 0xe9, which is not UTF-8.")
    assert "Save the file as UTF-8" in message


@pytest.mark.parametrize("content", ["", "\n\n", "   \n"])
def test_an_empty_data_set_is_an_error(write, content):
    path = write(content)
    assert error(read_rows, path).startswith(f"{path}: the data set is empty.")


def test_a_repeated_row_names_both_lines(write):
    other = '{"prompt": "Where is Oslo?", "response": "Elsewhere."}'
    path = write(f"{GOOD}\n{other}\n{GOOD}\n")
    assert error(read_rows, path) == f"{path}:3: repeats {path}:1. Remove one of the two."


def test_the_same_prompt_with_another_response_is_no_repetition(write):
    assert len(read_rows(write(f'{GOOD}\n{{"prompt": "Where is Oslo?", "response": "North."}}\n'))) == 2


def test_prepared_texts_are_read_and_checked(write):
    path = write('{"text": "one"}\n{"text": "two"}\n')
    assert read_texts(path) == ["one", "two"]
    assert "field 'text' is missing" in error(read_texts, write(GOOD))


def test_split_keeps_every_row_once_and_in_order():
    train, held_out = split(ROWS, 0.25)
    assert len(train) + len(held_out) == len(ROWS)
    assert not set(train) & set(held_out)
    assert train == [row for row in ROWS if row in set(train)]
    assert 60 <= len(held_out) <= 140


def test_split_is_known_by_value():
    """A change of the rule would silently move rows across: pin a few."""
    held_out = {row.prompt for row in split(ROWS[:20], 0.3)[1]}
    assert held_out == {"question 1", "question 8", "question 11", "question 13", "question 18", "question 19"}


def test_split_is_stable_under_reordering():
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    assert [set(side) for side in split(shuffled, 0.2)] == [set(side) for side in split(ROWS, 0.2)]


def test_split_is_stable_under_adding_rows():
    before, after = split(ROWS[:100], 0.2), split([Row("new", "row"), *ROWS], 0.2)
    for old, new in zip(before, after, strict=True):
        assert set(old) <= set(new)


def test_split_never_puts_one_prompt_on_both_sides():
    variants = [Row(text, f"{text}!{n}") for i in range(100) for n, text in enumerate((f"Ask {i}", f" ask  {i}\n"))]
    train, held_out = split(variants, 0.5)
    prompts = [{" ".join(row.prompt.lower().split()) for row in side} for side in (train, held_out)]
    assert train
    assert held_out
    assert not prompts[0] & prompts[1]


def test_a_greater_share_only_adds_to_the_held_out_side():
    assert set(split(ROWS, 0.1)[1]) < set(split(ROWS, 0.4)[1])


@pytest.mark.parametrize("template", ["chat", "{prompt}{response}", "Q: {prompt}\nA: {response} {{end}}"])
def test_good_templates_pass(template):
    check_template(template)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{prompt} {answer}", "text.template: unknown field {answer}. The rows have {prompt} and {response}."),
        ("{prompt} {response} {}", "unknown field {}."),
        ("{prompt.x} {response}", "unknown field {prompt.x}."),
        ("{response} {prompt}", "found the fields ['response', 'prompt'], expected {prompt} and then {response}"),
        ("{prompt}", "found the fields ['prompt'], expected {prompt} and then {response}"),
        ("{prompt}{response}{response}", "once each"),
        ("chats", "found the fields [], expected"),
        ("{prompt} {response} {", "Write a literal brace twice."),
    ],
)
def test_bad_templates_are_explained(template, expected):
    message = error(check_template, template)
    assert message.startswith("text.template: ")
    assert expected in message


def test_unescape_turns_backslash_n_into_a_line_break():
    assert unescape(r"Q: {prompt}\nA: {response}\n") == "Q: {prompt}\nA: {response}\n"
    assert unescape("a\nb") == "a\nb"


def test_a_text_template_is_rendered_without_a_tokenizer():
    row = Row("1 {x}?", "{response}")
    assert render("Q: {prompt}\nA: {response}{{}}", row, None) == "Q: 1 {x}?\nA: {response}{}"
    assert render_prompt("Q: {prompt}\nA: {response}", "1 {x}?") == "Q: 1 {x}?\nA: "


class ChatTokenizer:
    chat_template: str | None = "set"

    def apply_chat_template(self, messages, *, tokenize):
        assert not tokenize
        return json.dumps([[message["role"], message["content"]] for message in messages])


def test_chat_is_rendered_by_the_model_s_own_template():
    assert json.loads(render("chat", Row("p", "r"), ChatTokenizer())) == [["user", "p"], ["assistant", "r"]]


def test_chat_without_a_chat_template_is_an_error():
    tokenizer = ChatTokenizer()
    tokenizer.chat_template = None
    assert "the model's tokenizer has no chat template" in error(render, "chat", Row("p", "r"), tokenizer)
