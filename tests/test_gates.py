"""Every gate can fail, by the interval and not by noise; NaN never passes; a gate that fails writes nothing."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from olivepress.core.errors import PressError
from olivepress.core.gates import Figure, Thresholds, failed_thresholds, read_measured, shipped_losses, verdicts, worst
from stages import gate

THRESHOLDS = Thresholds(
    max_quantization_loss_increase=0.1,
    min_finetuning_gain=0.5,
    max_forgetting=0.2,
    max_export_loss_increase=0.02,
    max_kl_divergence=0.01,
    min_same_top_token=0.9,
    max_bytes=1200,
    max_loss_increase_since_release=0.05,
    max_size_ratio_to_release=1.1,
    min_relative_speed=0.7,
)
# (set, metric, step, minus) -> value; every interval is 0.04 to either side
OWN = {
    ("held_out", "loss", "quantized", "base"): 0.05,
    ("held_out", "loss", "finetuned", "quantized"): -1.0,
    ("held_out", "loss", "quantized_onnx", "quantized"): 0.01,
    ("held_out", "loss", "finetuned_onnx", "finetuned"): 0.01,
    ("held_out", "loss", "finetuned_onnx", None): 2.0,
    ("held_out", "kl_divergence", "quantized", None): 0.001,
    ("held_out", "kl_divergence", "finetuned", None): 0.001,
    ("held_out", "same_top_token", "quantized", None): 0.98,
    ("held_out", "same_top_token", "finetuned", None): 0.98,
    ("held_out", "rouge_l", "finetuned", "base"): -0.5,  # has no threshold
    ("general", "loss", "quantized", "base"): 9.0,  # general.json's: not judged again
    ("general", "loss", "finetuned", "quantized"): 0.1,
    ("general", "loss", "finetuned_onnx", "finetuned"): 0.01,
    ("general", "loss", "finetuned_onnx", None): 1.6,
    ("general", "kl_divergence", "finetuned", None): 0.001,
    ("general", "same_top_token", "finetuned", None): 0.98,
}
GENERAL = {
    ("general", "loss", "quantized", "base"): 0.05,
    ("general", "loss", "quantized_onnx", "quantized"): 0.01,
    ("general", "loss", "quantized_onnx", None): 1.5,
    ("general", "kl_divergence", "quantized", None): 0.001,
    ("general", "same_top_token", "quantized", None): 0.98,
}
LOSS = {"travel": 2.0, "general": 1.5, "general with travel": 1.6}
COUNT = 22  # figures with a threshold


class Results:
    """What the stages write, as far as the gate reads it; all of it holds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.own, self.general = dict(OWN), dict(GENERAL)
        self.bytes, self.half = 900, 0.04
        self.speed: tuple[float, float, float] | None = (0.9, 0.8, 1.0)
        self.released: dict | None = {"version": "0.1.0", "loss": dict(LOSS), "bytes": 1000}

    def write(self) -> Path:
        for name, entries in (("travel", self.own), ("general", self.general)):
            self._json(f"intervals/cpu/{name}.json", [self._entry(*item) for item in entries.items()])
        self._json("quality/auto-opt/cpu.json", {"bytes": self.bytes})
        self._json("quality/convert-adapter/cpu/travel.json", {"bytes": 100})
        if self.speed:
            names = ("relative_speed", "relative_speed_low", "relative_speed_high")
            self._json("cost/smoke-infer/cpu/travel.json", dict(zip(names, self.speed, strict=True)))
        if self.released:
            losses = {name: asdict(self._figure(value)) for name, value in self.released["loss"].items()}
            target = {"loss": losses, "bytes": self.released["bytes"]}
            self._json("baseline.json", {"version": self.released["version"], "targets": {"cpu": target}})
        return self.root

    def _figure(self, value: float) -> Figure:
        return Figure(value, value - self.half, value + self.half)

    def _entry(self, key: tuple, value: float) -> dict:
        return {**dict(zip(("set", "metric", "step", "minus"), key, strict=True)), **asdict(self._figure(value))}

    def _json(self, path: str, value: object) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(json.dumps(value))


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results")


def run(results: Results, thresholds: Thresholds = THRESHOLDS) -> tuple[Result, dict | None]:
    """The gate's stage on what the stages before it wrote; what it says, and what it wrote."""
    out = results.root.parent / "gate.json"
    options = [text for name, limit in asdict(thresholds).items() for text in (f"--{name}", str(limit))]
    where = ["--results", str(results.write()), "--target", "cpu", "--adapter", "travel", "--quality", str(out)]
    done = CliRunner().invoke(gate.main, [*where, *options])
    return done, json.loads(out.read_text()) if out.exists() else None


def failed(results: Results) -> list[str]:
    return failed_thresholds(verdicts(read_measured(results.write(), "cpu", ["travel"]), THRESHOLDS))


# what is changed (whose intervals and which), to what, what is said of it then, and a value that noise would excuse
CASES = [
    (
        "own",
        ("held_out", "loss", "quantized", "base"),
        0.15,
        "travel: loss(quantized) - loss(base) is 0.15 (0.11 to 0.19), above max_quantization_loss_increase 0.1",
        0.13,
    ),
    (
        "general",
        ("general", "loss", "quantized", "base"),
        0.15,
        "general: loss(quantized) - loss(base) is 0.15 (0.11 to 0.19), above max_quantization_loss_increase 0.1",
        0.13,
    ),
    (
        "own",
        ("held_out", "loss", "finetuned", "quantized"),
        -0.45,
        "travel: loss(quantized) - loss(finetuned) is 0.45 (0.41 to 0.49), below min_finetuning_gain 0.5",
        -0.47,
    ),
    (
        "own",
        ("general", "loss", "finetuned", "quantized"),
        0.25,
        "general with travel: loss(finetuned) - loss(quantized) is 0.25 (0.21 to 0.29), above max_forgetting 0.2",
        0.23,
    ),
    (
        "own",
        ("held_out", "loss", "finetuned_onnx", "finetuned"),
        0.07,
        "travel: loss(finetuned_onnx) - loss(finetuned) is 0.07 (0.03 to 0.11), above max_export_loss_increase 0.02",
        0.05,
    ),
    (
        "general",
        ("general", "loss", "quantized_onnx", "quantized"),
        0.07,
        "general: loss(quantized_onnx) - loss(quantized) is 0.07 (0.03 to 0.11), above max_export_loss_increase 0.02",
        0.05,
    ),
    (
        "own",
        ("general", "kl_divergence", "finetuned", None),
        0.07,
        "general with travel: KL divergence of finetuned_onnx is 0.07 (0.03 to 0.11), above max_kl_divergence 0.01",
        0.03,
    ),
    (
        "own",
        ("held_out", "same_top_token", "finetuned", None),
        0.84,
        "travel: same top token, finetuned_onnx is 0.84 (0.8 to 0.88), below min_same_top_token 0.9",
        0.87,
    ),
    (
        "own",
        ("held_out", "loss", "finetuned_onnx", None),
        2.15,
        "travel: loss since 0.1.0 is 0.15 (0.09343 to 0.2066), above max_loss_increase_since_release 0.05",
        2.1,  # the release's own noise counts, too
    ),
    (
        "general",
        ("general", "loss", "quantized_onnx", None),
        1.65,
        "general: loss since 0.1.0 is 0.15 (0.09343 to 0.2066), above max_loss_increase_since_release 0.05",
        1.6,
    ),
]


@pytest.mark.parametrize(("whose", "key", "value", "said", "excused"), CASES)
def test_each_gate_can_fail_and_writes_nothing_then(results, whose, key, value, said, excused):
    getattr(results, whose)[key] = value
    done, written = run(results)
    assert done.exit_code == 1 and written is None
    assert f"cpu misses 1 of {COUNT} thresholds, and nothing is registered" in done.output
    assert said in done.output
    assert done.output.count("ok ") == COUNT - 1
    getattr(results, whose)[key] = excused
    done, written = run(results)
    assert done.exit_code == 0 and written, "the interval reaches to the good side"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bytes": 1150, "released": None}, "bytes of model and adapters is 1,250, above max_bytes 1,200"),
        ({"bytes": 1050}, "bytes relative to 0.1.0 is 1.15, above max_size_ratio_to_release 1.1"),
        (
            {"speed": (0.6, 0.5, 0.65)},
            "travel: speed here, 1 being no adapter is 0.6 (0.5 to 0.65), below min_relative_speed 0.7",
        ),
    ],
    ids=["size", "size since the release", "speed"],
)
def test_size_and_speed_can_fail(results, changes, said):
    for name, value in changes.items():
        setattr(results, name, value)
    done, written = run(results)
    assert done.exit_code == 1 and written is None
    assert said in done.output


def test_the_gate_shows_every_verdict_and_writes_the_worst(results):
    done, written = run(results)
    assert done.exit_code == 0, done.output
    assert done.output.count("ok ") == COUNT
    assert "travel: loss(quantized) - loss(finetuned)" in done.output and "1 (0.96 to 1.04)" in done.output
    assert written == {
        "quantization_loss_increase": 0.05,
        "finetuning_gain": 1.0,
        "forgetting": 0.1,
        "export_loss_increase": 0.01,
        "kl_divergence": 0.001,
        "same_top_token": 0.98,
        "bytes": 1000,
        "loss_increase_since_release": 0.0,
        "size_ratio_to_release": 1.0,
    }


def test_what_belongs_to_a_machine_or_a_release_is_judged_where_it_is_there(results):
    results.speed = results.released = None
    done, written = run(results)
    assert done.exit_code == 0, done.output
    assert "speed here" not in done.output and "since" not in "".join(written)
    results.speed = (0.9, 0.8, 1.0)
    again, same = run(results)
    assert "speed here" in again.output
    assert same == written, "a figure of this machine is in no output"


def test_a_value_between_two_noises_is_no_miss_and_several_misses_are_all_named(results):
    results.own["held_out", "kl_divergence", "quantized", None] = 1.0
    results.general["general", "same_top_token", "quantized", None] = 0.5
    assert [text.partition(" is ")[0] for text in failed(results)] == [
        "travel: KL divergence of quantized_onnx",
        "general: same top token, quantized_onnx",
    ]


# of the graph with native operators beside it: what is measured, how, and what is said of it
NATIVE_CASES = [
    (
        "own",
        ("held_out", "loss", "finetuned_operators", "finetuned"),
        0.07,
        "travel: loss(finetuned_operators) - loss(finetuned) is 0.07 (0.03 to 0.11), above max_export_loss_increase",
    ),
    (
        "general",
        ("general", "loss", "quantized_operators", "quantized"),
        0.07,
        "general: loss(quantized_operators) - loss(quantized) is 0.07 (0.03 to 0.11), above max_export_loss_increase",
    ),
    (
        "own",
        ("general", "kl_divergence", "finetuned_operators", None),
        0.07,
        "general with travel: KL divergence of finetuned_operators is 0.07 (0.03 to 0.11), above max_kl_divergence",
    ),
    (
        "general",
        ("general", "same_top_token", "quantized_operators", None),
        0.84,
        "general: same top token, quantized_operators is 0.84 (0.8 to 0.88), below min_same_top_token",
    ),
]


@pytest.mark.parametrize(("whose", "key", "value", "said"), NATIVE_CASES)
def test_a_graph_with_operators_is_held_to_the_same_thresholds(results, whose, key, value, said):
    getattr(results, whose)[key] = value
    done, written = run(results)
    assert done.exit_code == 1 and written is None
    assert f"cpu misses 1 of {COUNT + 1} thresholds" in done.output
    assert said in done.output


def test_without_an_adapter_general_rows_are_judged_once(results):
    """They are in the adapter's figures, too, as they are of the portable graph."""
    results.own["general", "loss", "quantized_operators", "quantized"] = 9.0
    results.own["general", "kl_divergence", "quantized_operators", None] = 9.0
    assert failed(results) == []


@pytest.mark.parametrize(("whose", "key", "value", "said", "excused"), CASES)
def test_nan_is_a_miss(results, whose, key, value, said, excused):
    getattr(results, whose)[key] = math.nan
    assert [text.rpartition(" ")[0].rpartition(" ")[2] for text in failed(results)] == [
        said.rpartition(" ")[0].rpartition(" ")[2]
    ]


def test_a_figure_exactly_at_its_threshold_passes(results):
    results.half = 0.0
    results.own["held_out", "loss", "quantized", "base"] = 0.1
    results.own["held_out", "same_top_token", "finetuned", None] = 0.9
    assert failed(results) == []


def test_figures_that_are_missing_are_named(results):
    results.write()
    (results.root / "intervals/cpu/travel.json").unlink()
    with pytest.raises(PressError, match=r"intervals/cpu/travel\.json: not there"):
        read_measured(results.root, "cpu", ["travel"])


@pytest.mark.parametrize("text", ["null", "[1]", '"x"', '[{"set": "general"}]', '{"bytes": "many"}', "[" * 100_000])
@pytest.mark.parametrize("name", ["intervals/cpu/travel", "quality/auto-opt/cpu", "cost/smoke-infer/cpu/travel"])
def test_what_no_stage_wrote_is_named(results, name, text):
    results.write()
    path = results.root / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    try:
        read_measured(results.root, "cpu", ["travel"])
    except PressError as error:
        assert error.message.startswith(f"{path}: ")
    else:
        assert name.startswith("cost"), "a cost without a speed is one"


def test_a_new_adapter_has_no_release_to_be_held_to(results):
    del results.released["loss"]["travel"]
    results.own["held_out", "loss", "finetuned_onnx", None] = 9.0
    assert failed(results) == []


def test_what_a_release_is_remembered_by(results):
    found = shipped_losses(read_measured(results.write(), "cpu", ["travel"]))
    assert {name: figure.value for name, figure in found.items()} == LOSS


def test_a_difference_of_different_rows_has_both_errors():
    found = Figure(2.0, 1.97, 2.06).minus(Figure(1.0, 0.92, 1.04))
    assert (found.value, round(found.low, 6), round(found.high, 6)) == (1.0, 0.95, 1.1)


def test_the_worst_is_the_value_nearest_to_its_threshold_whatever_the_order(results):
    results.own["held_out", "same_top_token", "quantized", None] = 0.95
    results.own["held_out", "loss", "quantized", "base"] = 0.07
    found = worst(verdicts(read_measured(results.write(), "cpu", ["travel"]), THRESHOLDS))
    assert (found["same_top_token"], found["quantization_loss_increase"]) == (0.95, 0.07)
