"""JSON lines: every way a line can be wrong is named with its place, in bounded memory."""

import tracemalloc

import pytest

from olivepress.core.errors import PressError
from olivepress.core.jsonl import LONGEST_ROW, BadRow, has_words, read_json_lines, read_objects, text_field

GOOD = '{"prompt": "Where is Oslo?", "response": "In Norway."}'


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "rows.jsonl"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def error(path) -> str:
    with pytest.raises(PressError) as caught:
        list(read_objects(path))
    return caught.value.format_message()


def test_places_count_blank_lines_as_an_editor_does(write):
    path = write(f"\n{GOOD}\r\n  \n{GOOD}")
    assert [place for place, _ in read_objects(path)] == [f"{path}:2", f"{path}:4"]


def test_a_unicode_line_separator_inside_a_string_does_not_split_the_row(write):
    path = write('{"a": "a\u2028b\x85c"}\n')
    assert list(read_objects(path)) == [(f"{path}:1", {"a": "a\u2028b\x85c"})]


def test_a_byte_order_mark_is_skipped(write):
    assert [value for _, value in read_objects(write(b"\xef\xbb\xbf" + GOOD.encode()))] == [
        {"prompt": "Where is Oslo?", "response": "In Norway."}
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"prompt": "x" "response": "y"}', "column 16: broken JSON (Expecting ',' delimiter)"),
        ("[1]", "found list, expected a JSON object with fields."),
        ("3", "found int, expected a JSON object with fields."),
        ("[" * 200_000, "nested too deep"),
        ('{"a":' * 200_000, "nested too deep"),
        ('{"a": ' + "9" * 5000 + "}", "a number that is too long"),
        ('{"prompt": "a", "prompt": "b"}', "field 'prompt' is there twice"),
        ('{"a": {"b": 1, "b": 1}}', "field 'b' is there twice"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        (b'{"prompt": "caf\xe9"}', "byte 16 of the line is 0xe9, which is not UTF-8. Save the file as UTF-8."),
        ('{"a": "' + "x" * (17 * 2**20) + '"}', "longer than 16,777,216 bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_line_is_named_with_its_number(write, line, expected):
    line = line.encode() if isinstance(line, str) else line
    path = write(GOOD.encode() + b"\n\n" + line + b"\n" + GOOD.encode())
    assert error(path).startswith(f"{path}:3: {expected}")
    places = [(place, type(value) is BadRow) for place, value in read_json_lines(path)]
    assert places == [(f"{path}:1", False), (f"{path}:3", True), (f"{path}:4", False)], "it reads on"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(write, encoding):
    path = write(GOOD.encode(encoding))
    assert error(path) == f"{path}:1: UTF-16, it seems. Save the file as UTF-8."


@pytest.mark.parametrize("content", ["", "\n\n", "   \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(write, content):
    path = write(content)
    assert error(path) == f"{path}: the data set is empty. Expected JSON lines, one object a line."


def test_a_row_of_50_megabytes_takes_little_memory(write):
    path = write(GOOD + '\n{"prompt": "' + "x" * 50_000_000 + '"}\n')
    tracemalloc.start()
    found = [value for _, value in read_json_lines(path, LONGEST_ROW)]
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert str(found[1]) == "longer than 1,048,576 bytes. Split or remove it."


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": "p"}, "field 'prompt' is missing (found 'a')"),
        ({}, "field 'prompt' is missing (found no fields)"),
        ({"prompt": ""}, "field 'prompt' is empty"),
        ({"prompt": " \n\t\u3000"}, "field 'prompt' is empty"),
        ({"prompt": "\u200b\u200d\ufeff\u2060\u00ad"}, "field 'prompt' is empty"),
        ({"prompt": "\uffff\ufdd0 \U0001fffe"}, "field 'prompt' is empty"),
        ({"prompt": "\u2800\u3164"}, "field 'prompt' is empty"),
        ({"prompt": 7}, "field 'prompt' is a int, expected a string"),
        ({"prompt": None}, "field 'prompt' is a NoneType, expected a string"),
        ({"prompt": "a\ud83d"}, "field 'prompt': character 2 is half of a surrogate pair (\\ud83d)"),
    ],
)
def test_a_bad_field_is_named(value, expected):
    with pytest.raises(PressError) as caught:
        text_field("x:1", value, "prompt")
    assert caught.value.message.startswith(f"x:1: {expected}")


@pytest.mark.parametrize("text", ["a", "?", "\u200bx", "日", "👩\u200d💻", "é"])
def test_what_can_be_seen_is_text(text):
    assert has_words(text)
