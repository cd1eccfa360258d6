"""The summary of a run, from files alone."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from example_run import params_of
from test_run import Project, project  # noqa: F401 - a fixture

from olivepress.core.errors import PressError
from olivepress.results.reader import read, read_stages
from olivepress.results.stale import stale_stages
from olivepress.tools import show
from olivepress.tools.run import conclude, repro
from olivepress.tools.screen import Lines

THRESHOLDS = {
    "max_quantization_loss_increase": 0.3,
    "min_finetuning_gain": 0.5,
    "max_forgetting": 0.2,
    "max_export_loss_increase": 0.05,
    "max_kl_divergence": 0.05,
    "min_same_top_token": 0.95,
    "max_bytes": 5000000,
    "max_loss_increase_since_release": 0.1,
    "max_size_ratio_to_release": 1.1,
    "min_relative_speed": 0.5,
}


def figure(data: str, metric: str, step: str, minus: str | None, value: float) -> dict:
    """An entry of results/intervals."""
    ends = {"value": value, "low": value - 0.03, "high": value + 0.03}
    return {"set": data, "metric": metric, "step": step, "minus": minus, **ends}


GENERAL = [
    figure("general", "loss", "quantized", "base", 0.1),
    figure("general", "kl_divergence", "quantized", None, 0.01),
]
TRAVEL = [
    figure("held_out", "loss", "finetuned", "quantized", -1.1),
    figure("held_out", "loss", "finetuned_onnx", "finetuned", 0.01),
    figure("general", "loss", "finetuned", "quantized", 0.15),
    figure("held_out", "same_top_token", "finetuned", None, 0.99),
]
LONG = "word " * 200


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of a finished run with one adapter and one target, without its models."""
    params = params_of() | {"thresholds": THRESHOLDS}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (tmp_path / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"fetch": {"cmd": "true"}, "auto-opt": {}}}, sort_keys=False)
    )
    lock = {
        "fetch": {"cmd": "fetch --cost results/cost/fetch.json", "outs": [{"path": "models/base", "size": 6945000}]},
        "auto-opt@cpu-int4": {
            "cmd": "auto-opt --cost results/cost/auto-opt/cpu-int4.json",
            "outs": [{"path": "models/onnx/cpu-int4/model", "size": 4466625}, {"path": "results/x.json", "size": 1}],
        },
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}, sort_keys=False))
    quality = tmp_path / "results/quality"
    parts = {"embedding": 0, "head": 524288, "projections": 1179648, "tokenizer": 48646, "rest": 2714043}
    write(quality / "auto-opt/cpu-int4.json", {"bytes": 4466625, "bytes_by_part": parts})
    write(quality / "convert-adapter/cpu-int4/travel.json", {"bytes": 83432})
    write(tmp_path / "results/intervals/cpu-int4/travel.json", TRAVEL)
    write(tmp_path / "results/intervals/cpu-int4/general.json", GENERAL)
    answers = [
        {"adapter": who, "prompt": "where to go", "text": text, "tokens": [1]}
        for who, text in ((None, "Nowhere.\x1b[31m"), ("travel", LONG))
    ]
    write(tmp_path / "results/answers/cpu-int4/travel.json", answers)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def shown(root: Path, stale: set[str] = frozenset(), did: dict[str, str] | None = None) -> list[str]:
    from click import unstyle

    text = unstyle("\n".join(show.summary(read(root, set(stale)), did or {})))
    assert "\x1b" not in text
    return text.splitlines()


def test_the_verdict_comes_first_then_thresholds_answers_files_and_what_is_next(root: Path) -> None:
    lines = shown(root)
    assert lines[0] == "7 of 7 thresholds hold (cpu-int4)."
    titles = [line for line in lines[1:] if line and not line.startswith(" ")]
    assert titles == ["Thresholds of cpu-int4", "Answers of cpu-int4", "Built", "Next"]  # no cost: no run here
    assert "  min_finetuning_gain: at least 0.5" in lines
    gain = next(line for line in lines if "loss(quantized) - loss(finetuned)" in line)
    assert gain.strip().startswith("travel: loss(quantized) - loss(finetuned) ")
    assert gain.split()[-2:] == ["1.1", "holds"], "there is no room for its interval"
    assert "  max_bytes: at most 5,000,000" in lines and any(
        line.split()[-2:] == ["4,550,057", "holds"] for line in lines
    )
    assert "  models/base                 6.95 MB  not here" in lines
    assert "  cpu-int4: rest 2.71 MB, projections 1.18 MB, head 524 kB, tokenizer 48.6 kB" in lines
    assert not any("results/x.json" in line for line in lines)
    assert [line.split("  ")[1] for line in lines[-2:]] == ["make pull", "make repro"]
    for path in ("models/base", "models/onnx/cpu-int4/model"):
        (root / path).mkdir(parents=True)
    lines = shown(root)
    assert "  models/base                 6.95 MB" in lines
    assert any(line.startswith("  make chat ADAPTER=travel") for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_wide_screen_shows_the_intervals(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    gain = next(line for line in shown(root) if "loss(quantized) - loss(finetuned)" in line)
    assert gain.endswith(" holds") and " 1.1 (1.07 to 1.13) " in gain


def test_answers_stand_side_by_side_or_below_one_another_as_the_width_allows(root: Path, monkeypatch) -> None:
    lines = shown(root)
    head = next(line for line in lines if line.split() == ["no", "adapter", "travel"])
    first = lines[lines.index(head) + 1]
    assert first.split()[0] == "Nowhere.[31m"  # a control character of a model reaches no terminal
    assert first.index("word") == head.index("travel")
    assert sum("word" in line for line in lines) == show.LINES
    assert any(line.endswith("…") for line in lines)
    monkeypatch.setenv("COLUMNS", "40")
    lines = shown(root)
    assert "    no adapter  Nowhere.[31m" in lines
    assert any(line.startswith("    travel      word") for line in lines)


def test_a_missed_threshold_is_the_first_thing_said(root: Path) -> None:
    worse = [figure("held_out", "loss", "finetuned", "quantized", -0.2), *TRAVEL[2:]]
    worse.append(figure("held_out", "loss", "finetuned_onnx", "finetuned", float("nan")))
    write(root / "results/intervals/cpu-int4/travel.json", worse)
    lines = shown(root)
    assert lines[0] == "2 of 7 thresholds missed: nothing was registered for cpu-int4."
    missed = "travel: loss(quantized) - loss(finetuned) is 0.2 (0.17 to 0.23), below min_finetuning_gain 0.5"
    assert f"  cpu-int4: {missed}" in lines
    assert sum(line.endswith("MISSED") for line in lines) == 2
    assert lines[-1] == "  make repro  after a change of params, data or thresholds"


def test_metrics_and_answers_of_an_earlier_run_are_never_this_runs(root: Path) -> None:
    lines = shown(root, {"evaluate@travel-cpu-int4", "smoke-infer@travel-cpu-int4", "gate@cpu-int4"})
    assert lines[0].startswith("Nothing is known of the present state of cpu-int4")
    assert "Thresholds of cpu-int4 (of an earlier run: something has changed since)" in lines
    assert "Answers of cpu-int4 (of an earlier run: something has changed since)" in lines
    assert not [line for line in lines if line.endswith(("  holds", "MISSED"))]
    assert not any("make release" in line for line in lines)


def test_a_threshold_that_changed_is_judged_by_the_metrics_there_are(root: Path) -> None:
    lines = shown(root, {"gate@cpu-int4"})
    assert lines[0] == "7 of 7 thresholds hold (cpu-int4)."
    assert any(line.startswith("  make repro") for line in lines)


def test_what_was_not_measured_is_said(root: Path) -> None:
    (root / "results/intervals/cpu-int4/travel.json").unlink()
    assert shown(root)[0] == "Not measured yet: cpu-int4. Run the pipeline: make repro"
    (root / "dvc.lock").unlink()
    with pytest.raises(PressError, match="nothing has run here"):
        read(root, set())


def test_stages_show_their_cost_in_the_pipelines_order_and_what_this_run_did(root: Path) -> None:
    write(root / "results/cost/auto-opt/cpu-int4.json", {"seconds": 4.81, "peak_memory_mib": 1553})
    write(root / "results/cost/fetch.json", {"seconds": 1, "median_tokens_per_second": 12.5})
    lines = shown(root)
    start = lines.index("Stages, and their last run on this machine")
    assert [line.split() for line in lines[start + 1 : start + 3]] == [
        ["fetch", "1.0", "s", "12.5", "tokens/s"],
        ["auto-opt", "cpu-int4", "4.8", "s", "1,553", "MiB"],
    ]
    lines = shown(root, did={"auto-opt@cpu-int4": "ran", "fetch": "unchanged"})
    start = lines.index("Stages, and their last run on this machine")
    assert lines[start + 1].split()[:2] == ["fetch", "unchanged"]
    assert lines[start + 2].split()[:3] == ["auto-opt", "cpu-int4", "ran"]


def test_a_gate_that_holds_a_run_shows_the_summary(project: Project, root: Path, capfd) -> None:  # noqa: F811
    """The same folder as a DVC project, in which the gate fails."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["thresholds"]["min_finetuning_gain"] = 2
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "dvc.lock").unlink()
    found = {
        "evaluate": {"matrix": {"adapter": ["travel"], "target": ["cpu-int4"]}, "cmd": "true"},
        "gate": {"foreach": ["cpu-int4"], "do": {"cmd": "false", "deps": ["data.txt"], "outs": ["${item}.gate"]}},
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": found}, sort_keys=False))
    outcome = repro([], Lines())
    assert outcome.status == 255
    conclude(root, outcome)
    text = capfd.readouterr().out
    assert "[2/2] gate cpu-int4: failed" in text
    assert "1 of 7 thresholds missed: nothing was registered for cpu-int4." in text
    assert "\nStages: 1 ran, 0 from the cache, 0 unchanged, 1 failed, " in text
    assert stale_stages(root) == {"gate@cpu-int4"}
    assert text.endswith("The same as a page, with curves and intervals: report/index.html\n")
    assert "may not be released" in (root / "report/index.html").read_text(encoding="utf-8")


def test_without_a_run_the_command_says_what_to_do(project: Project) -> None:  # noqa: F811
    done = CliRunner().invoke(show.main)
    assert done.exit_code == 1
    assert "nothing has run here" in done.output


@pytest.mark.parametrize("text", ["[1, 2]", "null", '"x"', "[" * 100_000, "{"])
def test_answers_that_no_stage_wrote_are_named(root: Path, text: str) -> None:
    (root / "results/answers/cpu-int4/travel.json").write_text(text)
    with pytest.raises(PressError, match=r"results/answers/cpu-int4/travel\.json: "):
        read(root, set()).answers("cpu-int4")


@pytest.mark.parametrize(
    "text", ["", "[]", "stages:\n", "stages: [a]\n", "a: [\n", "<<<<<<< HEAD\nstages: {}\n=======\n"]
)
@pytest.mark.parametrize("name", ["dvc.yaml", "dvc.lock"])
def test_what_is_no_pipeline_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PressError, match=rf"{name}: is no {name} of DVC's"):
        read_stages(tmp_path / name)
