"""olivepress search with the real stages, on the embedded base: trials are measured, and one becomes a profile."""

import json
import re
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_search_with_the_real_stages(finished, tmp_path: Path) -> None:
    space = finished.copy(tmp_path / "clone")
    before = space.run("git", "status", "--porcelain").stdout
    command = ["python", "-m", "olivepress", "search", "--max-loss-increase", "9", "--min-tokens-per-second", "1"]
    command += ["--trials", "2", "--rows", "8", "--set", "algorithm=rtn", "--set", "group_size=32"]
    command += ["--set", "lm_head=int8,int4", "--set", "embedding=int8"]
    said = space.run(*command).stdout
    assert len(re.findall(r"^\[\d/2\] rtn, group 32, head int[48].*: loss [+-]", said, re.M)) == 2, said
    record = json.loads(space.read("report/search/tiny-search.json"))
    by_head = {trial["settings"]["lm_head"]: trial for trial in record["trials"]}
    assert by_head["int4"]["bytes"] < by_head["int8"]["bytes"]
    assert all(trial["low"] <= trial["loss"] <= trial["high"] for trial in record["trials"])
    assert all(trial["tokens_per_second"]["low"] > 1 for trial in record["trials"])
    assert record["chosen"] == by_head["int4"]["number"], "the smaller one holds as well"
    assert space.run("git", "status", "--porcelain").stdout == before + "?? conf/profile/tiny-search.yaml\n"
    assert "no trial" not in said
    space.run("python", "-m", "olivepress", "params", "profile=tiny-search")
    planned = space.run("dvc", "repro", "--dry", "auto-opt@cpu-int4").stdout
    assert "lm_head int4" in planned and "--algorithm rtn" in planned
