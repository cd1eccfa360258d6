"""Files of rows: JSON lines, arrays, CSV and Parquet, each row with its place; every way to be broken is named."""

import json
import os
import signal

import pyarrow as pa
import pyarrow.parquet
import pytest

from olivepress.core.errors import PressError
from olivepress.core.jsonl import BadRow
from olivepress.data import files
from olivepress.data.files import kind_of, read_file

ROWS = [
    {"prompt": 'a, "b"\nc', "response": "]}{["},
    {"prompt": "日本", "response": "\\"},
    {"prompt": "x", "response": "y"},
]


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def error(path) -> str:
    with pytest.raises(PressError) as caught:
        list(read_file(path))
    return caught.value.format_message()


def rows(path) -> list:
    return [value for _, value in read_file(path)]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\n \n"])
def test_a_json_array(write, indent, mark):
    path = write("rows.json", mark + json.dumps(ROWS, indent=indent, ensure_ascii=False) + "\n")
    assert kind_of(path) == "json array"
    assert rows(path) == ROWS


def test_the_elements_of_an_array_have_their_lines(write):
    path = write("rows.json", '\n[\n {"a": 1},\n\n {"b": [1,\n 2]}, {"c": 3},\n 4, {"d": 5, "d": 6}\n]')
    found = list(read_file(path))
    assert [where for where, _ in found] == [f"{path}:{line}" for line in (3, 5, 6, 7, 7)]
    assert [str(value) for _, value in found[3:]] == [
        "found int, expected a JSON object with fields.",
        "field 'd' is there twice. Keep one.",
    ]


def test_a_long_array_is_read_in_pieces(write):
    many = [{"prompt": f"{n} " + 'é\\" ]' * (n % 700), "response": "x"} for n in range(1000)]
    assert rows(write("rows.json", json.dumps(many))) == many


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"a": 1}', ":1: broken JSON: the array does not end"),
        ('[{"a": 1},\n{"a": "x', ":2: broken JSON: the array does not end"),
        ('[{"a": 1}] x', "text after the array's end"),
        ('[{"a": 1},\n{"a": 2}}', ":2: broken JSON: the array ends with '}'"),
        ('[{"a": 1},\n{"a": 2},\n]', ":3: broken JSON: a comma and then the array's end"),
        ('[{"a": "' + "x" * 50_000_000 + '"}]', "a row is longer than 1,048,576 bytes"),
        ("[" * 200_000, "broken JSON: the array does not end"),
        ('{"data": [\n{"a": 1}\n]}', ":1: column 11: broken JSON"),
    ],
    ids=lambda value: value[:20],
)
def test_a_broken_array_is_named(write, content, expected):
    assert expected in error(write("rows.json", content))


def test_an_empty_array_has_no_rows(write):
    assert rows(write("rows.json", "[ ]")) == []


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "\t")])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv(write, name, delimiter, mark, newline):
    other = ";" if delimiter == "," else ","
    lines = [f"prompt{delimiter}response", f'"a {delimiter} ""q"""{delimiter}"b', 'c"', "", f"d{other}e{delimiter}f"]
    path = write(name, mark + newline.join(lines) + newline)
    found = list(read_file(path))
    assert [where for where, _ in found] == [f"{path}:2", f"{path}:5"]
    assert found[0][1] == {"prompt": f'a {delimiter} "q"', "response": f"b{newline}c"}
    assert found[1][1]["response"] == "f"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('prompt,response\na,"b" c\n', ":2: broken CSV (',' expected after '\"')"),
        ('prompt,response\na,b\nc,"d\n', ":3: broken CSV (unexpected end of data)"),
        ("prompt,prompt\na,b\n", ":1: the first line names the columns, each once"),
        ("prompt,\na,b\n", ":1: the first line names the columns, each once"),
        (b"prompt,response\na,b\nc,\xe9\n", ":3: byte 3 of the line is 0xe9, which is not UTF-8"),
        (b"pr\xe9,response\na,b\n", ":1: byte 3 of the line is 0xe9, which is not UTF-8"),
        ("x" * 2_000_000, ":1: longer than 1,048,576 bytes"),
        ("prompt,response\n".encode("utf-16"), ":1: UTF-16"),
        ("prompt,response\na," + "x" * 50_000_000, ":2: longer than 1,048,576 bytes"),
        ('prompt,response\na,"' + "x\n" * 2_000_000, ":2: broken CSV (field larger than field limit"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_broken_csv_is_named(write, content, expected):
    assert expected in error(write("rows.csv", content))


def test_a_csv_row_with_other_fields_than_the_header_is_named_and_the_rest_is_read(write):
    path = write("rows.csv", "prompt,response\na,b\nc\nd,e,f\ng,h\n")
    found = list(read_file(path))
    assert [where for where, value in found if isinstance(value, BadRow)] == [f"{path}:3", f"{path}:4"]
    assert str(found[1][1]).startswith("1 fields, the first line names 2 columns. Commas part fields")


def test_parquet(tmp_path):
    path = tmp_path / "rows.parquet"
    nested = [{"messages": [{"role": "user", "content": "a"}]}, {"messages": None}]
    pyarrow.parquet.write_table(pa.Table.from_pylist(nested), path)
    assert list(read_file(path)) == [(f"{path}: row 1", nested[0]), (f"{path}: row 2", nested[1])]


def test_a_long_row_of_parquet_is_named_and_the_rest_is_read(tmp_path):
    path = tmp_path / "rows.parquet"
    long = [{"prompt": "x" * 2_000_000}, {"prompt": "y"}]
    pyarrow.parquet.write_table(pa.Table.from_pylist(long), path)
    found = rows(path)
    assert str(found[0]) == "longer than 1,048,576 characters. Split or remove it."
    assert found[1] == {"prompt": "y"}


@pytest.mark.parametrize(("number", "said"), [(signal.SIGSEGV, "Segmentation fault"), (signal.SIGABRT, "Aborted")])
def test_parquet_that_crashes_its_library_is_refused(tmp_path, monkeypatch, number, said):
    """Arrow ended its process by both, and by SIGBUS, where its memory ended (docs/log/2026-11-27-fuzz.md)."""
    read = files._rows

    def crash(batch):
        yield from read(batch)
        if batch.num_rows < 256:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(files, "_rows", crash)
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist([{"prompt": "a", "response": "b"}] * 300), path)
    found = read_file(path)
    assert [next(found)[0] for _ in range(256)][-1] == f"{path}: row 256"
    with pytest.raises(PressError, match=rf"after row 256: it ends the process that does it \({said}\)"):
        next(found)


@pytest.mark.parametrize("content", [b"PAR1 and no more", b"no parquet"])
def test_broken_parquet_is_named(write, content):
    path = write("rows.parquet", content)
    assert error(path).startswith(f"{path}: no Parquet file that can be read, after row 0: ")


@pytest.mark.parametrize("days", [2**30, 2**31 - 1])
def test_a_value_that_python_cannot_hold_is_named(tmp_path, days):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"prompt": pa.array([0, days], pa.date32())}), path)
    assert str(rows(path)[1]).startswith("a value that cannot be read (")


def test_a_time_zone_that_nobody_knows_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"prompt": pa.array([0], pa.timestamp("s", "Mars/Base"))}), path)
    assert str(rows(path)[0]).startswith("a value that cannot be read ('Mars/Base')")


def test_a_delimiter_within_a_name_of_a_column_is_none(write):
    assert rows(write("rows.csv", '"a, b, c";d\n1;2\n')) == [{"a, b, c": "1", "d": "2"}]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.txt"])
@pytest.mark.parametrize("content", ["", "\n  \n"])
def test_an_empty_file_is_named(write, name, content):
    path = write(name, content)
    assert error(path) == f"{path}: the data set is empty. Expected rows."


@pytest.mark.parametrize(("start", "packed"), [(b"\x1f\x8b", "gzip"), (b"PK\3\4", "zip"), (b"(\xb5/\xfd", "zstd")])
def test_a_packed_file_is_named(write, start, packed):
    assert f"packed ({packed}). Unpack it" in error(write("rows.jsonl", start + b"xxxxxxxx"))


@pytest.mark.parametrize(("start", "kind"), [(b"ARROW1\0\0", "an Arrow file"), (b"SQLite format 3\0", "an SQLite")])
def test_a_file_of_rows_of_another_kind_is_named(write, start, kind):
    path = write("rows.csv", start + b"xxxxxxxx")
    assert error(path).startswith(f"{path}: {kind}")


def test_a_pointer_of_git_lfs_holds_no_rows(write):
    with pytest.raises(PressError, match="a pointer of Git LFS"):
        kind_of(write("a.jsonl", f"version https://git-lfs.example/spec/v1\noid sha256:{'a' * 64}\nsize 4\n"))


def test_json_lines_under_the_name_of_another_kind_are_read(write):
    assert rows(write("rows.csv", '{"a": "b, c"}\n{"a": "d"}\n')) == [{"a": "b, c"}, {"a": "d"}]


def test_a_file_of_another_kind_is_one_message(write):
    assert error(write("rows.toml", "[project]\nname = 1\n")).startswith(
        f"{write('rows.toml', '[project]')}:1: column 2"
    )


def test_all_bad_lines_are_given_where_some_line_is_good(write):
    path = write("rows.jsonl", "x\ny\n{}\nz\n")
    assert [where.rpartition(":")[2] for where, value in read_file(path) if isinstance(value, BadRow)] == [
        "1",
        "2",
        "4",
    ]
