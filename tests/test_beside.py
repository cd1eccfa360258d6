"""The comparison with others (`make bench`): what it skips, what it says of what failed, and its table."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.beside import pages, turns
from benchmarks.beside.__main__ import main
from benchmarks.beside.install import INSTALLERS
from benchmarks.beside.steps import Settings, Step, Work, steps
from benchmarks.beside.table import ROWS, figures, markdown, record, verdicts

pytestmark = pytest.mark.unit


def found() -> dict[str, dict[str, Any]]:
    """What every step may have given; raw Olive failed, OpenVINO is not installed."""
    some = {"seconds": 10.0, "peak_mib": 500}
    values = {step.name: dict(some) for step in steps()}
    for name in values:
        if name.endswith("LoRA"):
            values[name] |= {"seconds_per_step": 2.0, "held_out": [5.0, 4.0]}
        elif name.endswith("loss"):
            values[name] |= {"nll": [3.0, 5.0, 4.0], "tokens": [1, 2, 1]}
    for name in ("ours export", "mixed export", "autoawq export", "Q4_0 quantize", "Q4_K_M quantize"):
        values[name] |= {"bytes": 100_000_000}
    values["ours loss"]["nll"] = [3.1, 5.1, 4.2]
    values["autoawq whole quantize"] |= {"quantize_seconds": 6.0, "layers": 2, "all_layers": 30}
    values["olive export"] = values["olive loss"] = {"error": "failed: no such pass"}
    values["openvino export"] = values["openvino loss"] = {"error": "not installed: no index"}
    case = {"tokens_per_s": [90, 110, 100], "prefill_ms": [50, 40, 60], "peak_mib": 300}
    values["speed"] = {"cases": {"ours": case, "Q4_0": {**case, "tokens_per_s": [120, 121, 122]}}, "load_average": []}
    return values


def test_a_row_has_medians_sums_and_a_paired_increase() -> None:
    row = figures(found(), "ours", 0)
    assert (row["made_s"], row["megabytes"], row["tokens_per_s"], row["prefill_ms"]) == (20, 100, 100, 50)
    assert row["increase"] == pytest.approx(0.1)  # (0.1 + 0.1 + 0.2) / 4 tokens
    assert row["interval"][0] <= row["increase"] <= row["interval"][1]


def test_what_was_measured_in_part_is_worked_out_and_marked() -> None:
    rows = record(found(), 0)["rows"]
    assert rows["autoawq whole"]["quantize_s"] == 94  # 10 s, and 28 more layers of 3 s
    line = next(line for line in markdown(rows).splitlines() if "AutoAWQ as it comes" in line)
    assert "| ~94 |" in line


def test_no_contender_is_missing_and_what_failed_says_why() -> None:
    table = markdown(record(found(), 0)["rows"])
    assert all(any(line.startswith(f"| {name} |") for line in table.splitlines()) for name, _ in ROWS.values())
    assert "- raw Olive (ModelBuilder, int4): export, loss: failed: no such pass" in table
    assert "- OpenVINO GenAI, int4: export, loss: not installed: no index" in table


def test_lora_has_its_seconds_and_what_it_came_to_for_all_who_can() -> None:
    lines = {line.split(" | ")[0][2:]: line for line in markdown(record(found(), 0)["rows"]).splitlines()}
    for who in ("ours", "olive", "float"):
        assert "| **2.00** | **4.000** |" in lines[ROWS[who][0]]
    assert "| cannot | cannot |" in lines["llama.cpp Q4_0"]
    assert "(before: 5.000 of the float one, 5.000 of ours)" in pages.page(values(), "2026-11-28")
    older = values()
    del older["measured"]["ours LoRA"]["held_out"]  # as runs had it before
    assert "before:" not in pages.page(older, "2026-11-28")


def test_the_best_is_bold_and_a_loss_is_called_one() -> None:
    values = record(found(), 269_000_000)
    assert "**121**" in next(line for line in markdown(values["rows"]).splitlines() if "Q4_0" in line)
    said = {line.partition(":")[0]: line for line in verdicts(values["rows"], values["pairs"])}
    assert "loses" in said["- decode, tok/s"]
    assert "ahead" in said["- ships, MB"]
    assert "level" in said["- answer loss over float's"]  # of mixed precision beside Q4_0: the same


def test_losses_are_compared_row_by_row() -> None:
    ahead = [pair for pair in record(found(), 0)["pairs"] if pair["ours"] == "ours"]
    assert {pair["other"] for pair in ahead} == {"autoawq", "Q4_0", "Q4_K_M"}  # the others have no loss here
    assert all(pair["increase"] == pytest.approx(0.1) and pair["interval"][0] > 0 for pair in ahead)


def test_a_contender_that_answers_at_random_is_named_and_not_compared() -> None:
    broken = found()
    broken["autoawq loss"]["nll"] = [13.0, 25.0, 14.0]
    made = record(broken, 0)
    assert (
        "- AutoAWQ in float32 without clipping, then ModelBuilder: loss, decoding: its answers have 13.0"
        in markdown(made["rows"])
    )
    assert not {"increase", "tokens_per_s"} & made["rows"]["autoawq"].keys()
    assert "autoawq" not in {pair["other"] for pair in made["pairs"]}


def values() -> dict[str, Any]:
    """A record as `run` writes it."""
    about = {"machine": {"processor": "P", "cpus": 2}, "versions": {"python": "3.11"}, "minutes": 25.0}
    return {**about, "settings": vars(Settings(threads=2)), **record(found(), 269_000_000)}


def test_publish_writes_the_pages_once(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log/README.md").write_text("# Log\n\n| day | what |\n|---|---|\n")
    (tmp_path / "performance.md").write_text("# Performance\n\n## Bytes\n\nfew\n\n## Large files\n\nmany\n")
    (tmp_path / "beside.json").write_text(json.dumps(values()))
    command = ["publish", f"--results={tmp_path}/beside.json", f"--docs={tmp_path}", "--day=2026-11-28"]
    written = []
    for _ in range(2):
        done = CliRunner().invoke(main, command, catch_exceptions=False)
        assert not done.exit_code, done.output
        written.append({path.name: path.read_text() for path in sorted(tmp_path.rglob("*.md"))})
    assert written[0] == written[1]
    summary, index, page = (written[0][name] for name in ("performance.md", "README.md", "2026-11-28-beside.md"))
    assert summary.index("## Bytes") < summary.index(pages.HEADING) < summary.index("## Large files")
    assert index.endswith("(2026-11-28-beside.md), one table |\n")
    assert "ours **loses**, 100 (Olive Press, profile smollm2) beside 121 (llama.cpp Q4_0)" in page


def test_measured_is_what_has_the_same_settings_and_no_error(tmp_path: Path) -> None:
    assert turns.measured(tmp_path, "ours loss", {"rows": 3}) is None
    turns.write_json(turns.file_of(tmp_path, "ours loss"), {"settings": {"rows": 3}, "nll": [1.0]})
    assert turns.measured(tmp_path, "ours loss", {"rows": 3})["nll"] == [1.0]
    assert turns.measured(tmp_path, "ours loss", {"rows": 4}) is None
    turns.write_json(turns.file_of(tmp_path, "ours loss"), {"settings": {"rows": 3}, "error": "failed: disk"})
    assert turns.measured(tmp_path, "ours loss", {"rows": 3}) is None


def test_every_step_needs_earlier_ones_and_has_a_row() -> None:
    names: list[str] = []
    for step in steps():
        assert set(step.needs) <= set(names), step.name
        names.append(step.name)
    # one is a part of a row, one is a row of speed alone
    assert {step.who for step in steps()} - {"autoawq weights"} == set(ROWS) - {"portable"}
    assert set(turns.DECODERS) == set(ROWS) - {"autoawq whole"}
    assert {made for _, made, _ in turns.DECODERS.values()} <= set(names)


def test_a_step_that_fails_or_takes_too_long_gives_its_reason(tmp_path: Path) -> None:
    work = Work(tmp_path, Settings(threads=1))
    failed = turns.in_process(work, Step("float", "loss", print), 60)  # there is no float model
    assert failed["error"].startswith("failed: FileNotFoundError")
    assert turns.in_process(work, Step("float", "loss", print), 0.01)["error"] == "ended after 0 s"


def test_nothing_is_begun_without_time_left(tmp_path: Path) -> None:
    work = Work(tmp_path, Settings(threads=1))
    for name in INSTALLERS:
        work.library(name).mkdir(parents=True)  # what is there is not installed
    found = turns.run_all(work, turns.Budget(time.monotonic()))
    assert found["float make"]["error"] == "no time left"
    assert found["ours export"]["error"] == "needs ours quantize"
    assert found["speed"]["cases"] == {}
    assert json.loads(turns.file_of(tmp_path, "float make").read_text())["error"] == "no time left"
