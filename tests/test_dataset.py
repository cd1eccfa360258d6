"""What an adapter's data may be: a file, a folder, a data set file; what DVC could not watch is refused."""

import json

import pytest

from olivepress.core.errors import PressError
from olivepress.data.dataset import source_from, source_of
from olivepress.data.problems import Problems
from olivepress.data.sources import Source, read_source

COMMIT = "0" * 40


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jsonl", "a.csv", "notes.txt"):
        (tmp_path / name).write_text(
            "prompt,response\n1,2\n" if name == "a.csv" else '{"prompt": "3", "response": "4"}\n'
        )
    return tmp_path


def prompts(source: Source) -> list[str]:
    problems = Problems(source.name)
    found = [row.messages[0]["content"] for row in read_source(source, problems)]
    problems.raise_any()
    return found


def error(folder, text: str, name: str = "dataset.yaml") -> str:
    path = folder / name
    path.write_text(text)
    with pytest.raises(PressError) as caught:
        source_of(str(folder if name == "dataset.yaml" else path))
    assert caught.value.message.startswith(str(path))
    return caught.value.message.removeprefix(str(path))


def test_a_file_and_a_folder_of_files_by_name(folder):
    assert prompts(source_of(f"{folder}/b.jsonl")) == ["3"]
    assert prompts(source_of(str(folder))) == ["1", "3"]
    (folder / "c.json").symlink_to(folder / "d.json")
    (folder / "d.json").write_text(json.dumps([{"prompt": "5", "response": "6"}]))
    (folder / "d.json").rename(folder / "elsewhere")
    (folder / "c.json").unlink()
    (folder / "c.json").symlink_to(folder / "elsewhere")
    assert prompts(source_of(str(folder))) == ["1", "3", "5"]


def test_a_data_set_file_says_how_to_read(folder):
    (folder / "b.jsonl").write_text('{"q": "7", "response": "8"}\n{"q": "9", "response": "10"}\n')
    (folder / "dataset.yaml").write_text("files: [b.jsonl]\ncolumns: {prompt: q}\nrows: 1\nbad_rows: drop\n")
    found = source_of(str(folder))
    assert found == Source([f"{folder}/b.jsonl"], None, {"prompt": "q"}, "train", None, 1, "drop")
    assert prompts(found) == ["7"]
    assert prompts(source_from([str(folder)], rows=2)) == ["7", "9"]
    assert source_from(["x", "y"], columns=["prompt=q"]) == Source(["x", "y"], columns={"prompt": "q"})


def test_a_data_set_on_the_hub(folder):
    path = folder / "mine.yaml"
    path.write_text(f"hub: hf://datasets/owner/name@{COMMIT}\nsplit: test\nsubset: en\nrows: 100\nformat: alpaca\n")
    assert source_of(str(path)) == Source([f"hf://datasets/owner/name@{COMMIT}"], "alpaca", {}, "test", "en", 100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file: x\n", ":1: file: no such key. There are files, hub"),
        ("rows: 1\nformat: chat\n", ":2: format: found the text 'chat': input should be 'prompt-response'"),
        ("rows: 0\n", ":1: rows: found 0: input should be greater than or equal to 1"),
        ("split: test\n", ":1: split: data on the hub have one, files have none"),
        ("files: [../x.jsonl]\n", ": files: ../x.jsonl: expected files of this folder"),
        ("files: [/x.jsonl]\n", ": files: /x.jsonl: expected files of this folder"),
        ("files: [a.csv]\nhub: x\n", ":1: files: beside `hub:`. Expected one of the two."),
        ("files: []\n", ":1: files: found an empty list: list should have at least 1 item"),
        ("columns: [a]\n", ":1: columns: found a list: input should be a valid dictionary"),
        ("- x\n", ":1: found a list, expected sections"),
    ],
)
def test_what_is_wrong_with_a_data_set_file_is_named(folder, text, expected):
    assert error(folder, text).startswith(expected)


def test_a_data_set_file_apart_from_its_files_is_refused(folder):
    said = error(folder, "files: [a.csv]\n", "mine.yaml")
    assert said.startswith(": no `hub:`, and DVC would not see files change that it names. Call it dataset.yaml")


def test_a_folder_without_rows(tmp_path):
    with pytest.raises(PressError, match="holds no file of rows"):
        source_of(str(tmp_path))
