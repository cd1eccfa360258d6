"""make metrics: a table for each stage of what a run has left."""

import json
from pathlib import Path

from click.testing import CliRunner

from olivepress.tools.metrics import instance, main


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def show(results: Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["--results", str(results)])
    return done.exit_code, done.output


def test_stages_stand_in_the_pipelines_order_and_instances_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "quality/evaluate/cpu-int4/travel.json", {"loss": {"base": 9.5}})
    write(tmp_path / "quality/finetune/travel.json", {"adapter_bytes": 83984})
    write(tmp_path / "quality/finetune/cooking.json", {"adapter_bytes": 165920, "extra": 1})
    write(tmp_path / "quality/quantize.json", {"bits_per_weight": 8.13, "calibration": {"sha256": "ab" * 32}})
    write(tmp_path / "cost/quantize.json", {"seconds": 12.5})
    status, text = show(tmp_path)
    assert status == 0
    lines = [line.split() for line in text.splitlines()]
    heads = [line[1] for line in lines if line and line[0] in ("quality:", "cost:")]
    assert heads == ["quantize", "finetune", "evaluate", "quantize"]
    assert ["cooking", "travel"] in lines
    assert ["adapter_bytes", "165,920", "83,984"] in lines
    assert ["extra", "1"] in lines
    assert ["cpu-int4/travel"] in lines
    assert ["loss.base", "9.5"] in lines
    assert "abab" not in text  # hashes are left out


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "quality/fetch.json", {"bytes": 12345, "source": "a folder", "names": ["a"], "none": None})
    _, text = show(tmp_path)
    assert text.split() == ["quality:", "fetch", "bytes", "12,345"]


def test_an_instance_is_named_as_dvc_names_the_stage() -> None:
    assert instance("quantize", "") == "quantize"
    assert instance("finetune", "travel") == "finetune@travel"
    assert instance("evaluate", "cpu-int4/travel") == "evaluate@travel-cpu-int4"


def test_without_a_run_it_says_what_to_do(tmp_path: Path) -> None:
    status, text = show(tmp_path)
    assert status == 1
    assert "make repro" in text
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality/fetch.json").write_text("{")
    status, text = show(tmp_path)
    assert status == 1
    assert "fetch.json" in text
    assert "dvc repro" in text
