"""A data set on the hub, over HTTP against a server of ours: pinned, streamed, data alone."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hub import Hub, serve_this_process

from olivepress.core.errors import PressError
from olivepress.core.prepared import read_prepared
from olivepress.data.hub import read_hub

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "press/rows"
ROWS = [json.loads(line) for line in (ROOT / "data/travel.jsonl").read_text().splitlines()[:80]]


def parquet(rows: list[dict]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


@pytest.fixture
def hub():
    talks = [{"q": row["prompt"], "a": row["response"]} for row in ROWS]
    lines = "".join(json.dumps(row) + "\n" for row in talks[60:]).encode()
    server = Hub(
        NAME,
        COMMIT,
        {
            "README.md": b"---\nlicense: mit\n---\n",
            "data/train-00000-of-00002.parquet": parquet(talks[:30]),
            "data/train-00001-of-00002.parquet": parquet(talks[30:60]),
        },
    )
    server.lines = lines
    yield server
    server.close()


def prepare(hub: Hub, tmp_path: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "stages.prepare", "--model", "data/tiny-phi3", "--held-out", "0.3"),
            *("--out", tmp_path / "out", "--quality", tmp_path / "q.json", "--inputs", tmp_path / "i.json", *options),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            **{"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"},
            **{"HF_HUB_DISABLE_XET": "1", **environment},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_data_set_file_names_a_commit_a_split_and_a_number_of_rows(hub, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"hub: hf://datasets/{NAME}@{COMMIT}\nrows: 50\ncolumns: {{prompt: q, response: a}}\n")
    ran = prepare(hub, tmp_path, "--data", str(path))
    assert ran.returncode == 0, ran.stderr
    assert sum(len(read_prepared(tmp_path / f"out/{side}.jsonl")) for side in ("train", "held_out")) == 50
    inputs = json.loads((tmp_path / "i.json").read_text())
    assert inputs["data"] == f"hf://datasets/{NAME}@{COMMIT}"
    assert len(inputs["sha256"]) == 64
    assert f"hf://datasets/{NAME}@{COMMIT}: the hub, prompt-response (found by its fields)." in ran.stderr


def test_other_splits_are_json_or_csv_as_well(hub, monkeypatch):
    hub.files["data/test.jsonl"] = hub.lines
    del hub.files["data/train-00000-of-00002.parquet"], hub.files["data/train-00001-of-00002.parquet"]
    serve_this_process(hub, monkeypatch)
    uri = f"hf://datasets/{NAME}@{COMMIT}"
    assert [row["q"] for _, row in read_hub(uri, "test", None)] == [row["prompt"] for row in ROWS[60:]]
    with pytest.raises(PressError, match="no split 'train'"):
        list(read_hub(uri, "train", None))


@pytest.mark.parametrize(
    ("files", "refuse", "revision", "expected"),
    [
        ({}, None, "main", f"write hf://datasets/{NAME}@{COMMIT}"),
        ({}, None, COMMIT[::-1], "the repository has no revision"),
        (
            {"rows.py": b"import os\n"},
            None,
            COMMIT,
            "is made by a script of its own, rows.py. Such scripts are not run",
        ),
        ({"data.pkl": b"pickle"}, None, COMMIT, "no file of rows in it"),
        ({}, (403, "GatedRepo"), COMMIT, "gated. Accept its terms"),
        ({}, (401, "RepoNotFound"), COMMIT, "no such data set, or a private one"),
        ({}, (418, "Teapot"), COMMIT, "the hub cannot be reached"),
    ],
)
def test_what_is_not_taken_is_explained(hub, monkeypatch, files, refuse, revision, expected):
    serve_this_process(hub, monkeypatch)
    hub.refuse = refuse
    if files:
        hub.files = files if "data.pkl" in files else hub.files | files
    with pytest.raises(PressError, match=re.escape(expected)):
        list(read_hub(f"hf://datasets/{NAME}@{revision}", "train", None))
    asked = [path for method, path, _ in hub.requests if method == "GET"]
    assert not [path for path in asked if path.endswith((".pkl", "rows.py"))]


def test_offline_is_explained(hub, tmp_path):
    ran = prepare(hub, tmp_path, "--data", f"hf://datasets/{NAME}@{COMMIT}", HF_HUB_OFFLINE="1")
    assert ran.returncode == 1
    assert "the hub cannot be reached, after row 0" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("uri", ["hf://press/rows@" + COMMIT, "hf://datasets/press/rows", "hf://datasets/a b/c@d"])
def test_a_malformed_name(uri):
    with pytest.raises(PressError, match=f"{uri}: expected hf://datasets/owner/name@commit."):
        list(read_hub(uri, "train", None))
