"""The stage: rows of any kind become prepared rows; everything that is wrong, lost or done is said."""

import json
from pathlib import Path

import pytest
import yaml
from in_process import run_stage

from olivepress.core.outputs import sha256
from olivepress.core.prepared import read_preferences, read_prepared

TINY = "data/tiny-phi3"
ROWS = [
    json.loads(line) for line in Path(__file__).parents[2].joinpath("data/travel.jsonl").read_text().splitlines()[:60]
]


@pytest.fixture
def prepare(tmp_path):
    def prepare(*options: object):
        return run_stage(
            *("prepare", "--model", TINY, "--held-out", 0.3, "--out", tmp_path / "out"),
            *("--quality", tmp_path / "quality.json", "--inputs", tmp_path / "inputs.json", *options),
        )

    prepare.out = tmp_path / "out"
    prepare.read = lambda name: json.loads((tmp_path / f"{name}.json").read_text())
    return prepare


@pytest.fixture
def write(tmp_path):
    def write(rows: list, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


def test_rows_are_split_counted_and_written(prepare, write):
    path = write(ROWS)
    ran = prepare("--data", path)
    assert ran.exit_code == 0, ran.stderr
    sides = {side: read_prepared(prepare.out / f"{side}.jsonl") for side in ("train", "held_out")}
    assert sum(map(len, sides.values())) == 60
    assert sorted(file.name for file in prepare.out.iterdir()) == ["held_out.jsonl", "train.jsonl"]
    quality = prepare.read("quality")
    for side, rows in sides.items():
        lengths = sorted(len(row.input_ids) for row in rows)
        assert quality[side] == {
            "rows": len(rows),
            "tokens": sum(lengths),
            "answer_tokens": sum(end - start for row in rows for start, end in row.answers),
            "median_tokens": lengths[len(lengths) // 2],
            "longest_tokens": lengths[-1],
        }
    assert prepare.read("inputs") == {"data": path.as_posix(), "sha256": sha256(path)}
    assert f"{path}: json lines, prompt-response (found by its fields)." in ran.stderr


def test_the_same_bytes_each_time(prepare, write):
    path = write(ROWS)
    prepare("--data", path)
    first = {file.name: file.read_bytes() for file in prepare.out.iterdir()}
    prepare("--data", path)
    assert {file.name: file.read_bytes() for file in prepare.out.iterdir()} == first


def test_several_files_of_several_kinds_in_order(prepare, write, tmp_path):
    alpaca = [{"instruction": row["prompt"], "output": row["response"]} for row in ROWS[:30]]
    shared = [{"conversations": [{"from": "human", "value": row["prompt"]}, {"from": "gpt", "value": row["response"]}],
               "id": str(n)} for n, row in enumerate(ROWS[30:])]  # fmt: skip
    one, other = write(alpaca, "a.jsonl"), tmp_path / "b.json"
    other.write_text(json.dumps(shared))
    ran = prepare("--data", one, "--data", other)
    assert ran.exit_code == 0, ran.stderr
    assert f"{one}: json lines, alpaca (found by its fields)." in ran.stderr
    assert f"{other}: json array, sharegpt (found by its fields)." in ran.stderr
    assert f"{other}: the field 'id' of 30 rows is not used." in ran.stderr
    assert prepare.read("inputs") == {
        "data": [one.as_posix(), other.as_posix()],
        "sha256": [sha256(one), sha256(other)],
    }
    apart = {side: (prepare.out / f"{side}.jsonl").read_bytes() for side in ("train", "held_out")}
    prepare("--data", write(ROWS))
    assert {side: (prepare.out / f"{side}.jsonl").read_bytes() for side in apart} == apart


def test_other_names_of_columns(prepare, write):
    rows = [{"q": row["prompt"], "a": row["response"]} for row in ROWS]
    ran = prepare("--data", write(rows), "--column", "prompt=q", "--column", "response=a")
    assert ran.exit_code == 0, ran.stderr
    assert prepare("--data", write(rows), "--column", "promt=q").exit_code == 1


def test_preferences(prepare, write):
    rows = [{"prompt": row["prompt"], "chosen": row["response"], "rejected": "I do not know."} for row in ROWS]
    ran = prepare("--data", write(rows))
    assert ran.exit_code == 0, ran.stderr
    assert read_preferences(prepare.out / "train.jsonl")
    mixed = prepare("--data", write(rows), "--data", write(ROWS, "b.jsonl"))
    assert "answers and preferences in one data set" in mixed.stderr


def test_all_bad_rows_are_named_and_the_rest_counted(prepare, write):
    bad = ["{", {"prompt": "x"}, {"prompt": "x", "response": "<|end|>"}, ROWS[0]]
    path = write([*ROWS[:10], *bad, *[{"prompt": str(n)} for n in range(30)]])
    ran = prepare("--data", path)
    assert ran.exit_code == 1
    said = ran.stderr.splitlines()[-22:]
    assert f"{path}: 34 rows cannot be used:" in said[0]
    assert f"{path}:11: column 2: broken JSON" in ran.stderr
    assert f"{path}:12: field 'response' is missing" in ran.stderr
    assert f"{path}:13: messages[1] (assistant) has '<|end|>', a control token" in ran.stderr
    assert f"{path}:14: repeats {path}:1. Remove one of the two." in ran.stderr
    assert said[-1].strip() == "and 14 more."
    assert not prepare.out.exists()


def test_bad_rows_are_left_out_where_that_is_asked_for(prepare, write):
    path = write([*ROWS, "{", ROWS[0]])
    ran = prepare("--data", path, "--bad-rows", "drop")
    assert ran.exit_code == 0, ran.stderr
    assert f"{path}: 2 rows are left out (bad_rows: drop). The first: {path}:61: column 2: broken JSON" in ran.stderr
    assert prepare.read("quality")["left_out"] == 2
    assert sum(len(read_prepared(prepare.out / f"{side}.jsonl")) for side in ("train", "held_out")) == 60


def test_rows_that_are_cut_are_counted_and_an_answer_lost_whole_is_refused(prepare, write):
    path = write(ROWS)
    ran = prepare("--data", path, "--sequence-length", 64)
    assert ran.exit_code == 0, ran.stderr
    rows = [row for side in ("train", "held_out") for row in read_prepared(prepare.out / f"{side}.jsonl")]
    cut = [len(row.input_ids) - 64 for row in rows if len(row.input_ids) > 64]
    assert cut
    assert prepare.read("quality")["cut"] == {"rows": len(cut), "answer_tokens": sum(cut), "answers": 0}
    assert f"{len(cut)} of 60 rows are longer than finetune.sequence_length 64" in ran.stderr
    short = prepare("--data", write([{"prompt": "word " * 90, "response": "yes"}, *ROWS]), "--sequence-length", 64)
    assert short.exit_code == 1
    assert f"{path}:1: its answer begins at token" in short.stderr
    assert "behind finetune.sequence_length 64: nothing of it would be trained on" in short.stderr


def test_near_duplicates_are_counted_and_said(prepare, write):
    rows = [*ROWS, *({**row, "prompt": f"Hello, {row['prompt']}"} for row in ROWS)]
    ran = prepare("--data", write(rows))
    assert ran.exit_code == 0, ran.stderr
    assert "120 of 120 rows are near-duplicates, in 60 groups: each is kept on one side" in ran.stderr
    assert prepare.read("quality")["near_duplicates"] == 120


def test_too_few_rows_for_both_sides(prepare, write):
    ran = prepare("--data", write(ROWS[:1]))
    assert ran.exit_code == 1
    assert "1 rows leave none for held_out at prepare.held_out 0.3: add rows." in ran.stderr


@pytest.mark.parametrize(
    ("data", "expected"),
    [("none.jsonl", "not there. Expected a file or folder"), ("docs", "docs: holds no file of rows")],
)
def test_no_file(prepare, data, expected):
    ran = prepare("--data", data)
    assert ran.exit_code == 1
    assert expected in ran.stderr


def test_an_adapter_of_the_params(prepare, write, tmp_path):
    """As check_params writes it: the adapter's own sequence length and method go before finetune's."""
    params = yaml.safe_load(Path(__file__).parents[2].joinpath("params.yaml").read_text())
    write([{"q": row["prompt"], "response": row["response"]} for row in ROWS])
    (tmp_path / "dataset.yaml").write_text("files: [rows.jsonl]\ncolumns: {prompt: q}\nrows: 50\nbad_rows: drop\n")
    params["adapters"]["travel"]["data"] = params["adapters"]["cooking"]["data"] = str(tmp_path)
    params["adapters"]["travel"]["lora"]["sequence_length"] = 64
    params["adapters"]["cooking"]["lora"]["method"] = "dpo"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    checked = run_stage(
        *("check_params", "--params", tmp_path / "params.yaml", "--out", tmp_path / "checked"),
        *("--settings", tmp_path / "settings"),
    )
    assert checked.exit_code == 0, checked.stderr
    ran = prepare("--settings", tmp_path / "settings/travel.json")
    assert ran.exit_code == 0, ran.stderr
    assert "of 50 rows are longer than finetune.sequence_length 64" in ran.stderr
    ran = prepare("--settings", tmp_path / "settings/cooking.json")
    assert ran.exit_code == 1 and "rows.jsonl:1: answers, but finetune.method is dpo. Set it to sft" in ran.stderr
    assert prepare("--settings", tmp_path / "settings/x.json").exit_code == 2


def test_preferences_want_a_method_that_takes_them(prepare, write):
    path = write([{"prompt": row["prompt"], "chosen": row["response"], "rejected": "no"} for row in ROWS])
    ran = prepare("--data", path, "--method", "sft")
    assert ran.exit_code == 1
    assert f"{path}:1: preferences, but finetune.method is sft. Set it to dpo for this adapter" in ran.stderr
