"""Finetuning in two processes on the CPU (gloo) against one: the same adapter, but for rounding."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import run_stage
from prepared_rows import TINY, settings, travel

from olivepress.core.errors import PressError
from olivepress.core.prepared import write_prepared
from olivepress.finetune import parallel as lora_parallel
from olivepress.finetune.lora import LoraSettings, Training, finetune

pytestmark = pytest.mark.xdist_group("two processes")  # each test takes both cores
ROOT = Path(__file__).parents[2]
ROWS = travel(34)


def train(out: Path, wanted: LoraSettings) -> tuple[dict, Training]:
    """The adapter's weights and its training. The rows differ in length, and the last held-out batch is short."""
    from safetensors.torch import load_file

    training = finetune(TINY, ROWS[:24], ROWS[24:], out, wanted)
    return load_file(out / "adapter_model.safetensors"), training


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two processes on two cores; and what torch reads must reach the processes that are started."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "adapter"
    return folder, *train(folder, settings())


@pytest.mark.parametrize(("parallel", "grouped"), [("ddp", False), ("fsdp", True)], ids=["ddp", "fsdp, by length"])
def test_two_processes_train_what_one_does(alone, tmp_path, parallel, grouped):
    folder, weights, expected = alone
    changes = {}
    if grouped:
        changes = {"group_by_length": True, "sequence_length": 128, "batch_size": 2, "learning_rate": 2e-2}
        folder = tmp_path.with_name(f"{tmp_path.name}-alone") / "adapter"
        weights, expected = train(folder, settings(**changes))
    found, training = train(tmp_path / "adapter", settings(processes=2, parallel=parallel, **changes))
    assert found.keys() == weights.keys()
    moved = max(weight.abs().max().item() for name, weight in weights.items() if "lora_B" in name)
    assert moved > 0.02  # it did learn: B starts at zero
    for name, weight in weights.items():
        assert (weight - found[name]).norm() < 1e-3 * weight.norm(), name
    for key in ("loss", "eval_loss"):
        for (step, loss), (other, other_loss) in zip(expected.curve(key), training.curve(key), strict=True):
            assert (step, loss) == (other, pytest.approx(other_loss, abs=1e-4)), key
    assert training.best_step == expected.best_step == 4
    assert (tmp_path / "adapter/adapter_config.json").read_bytes() == (folder / "adapter_config.json").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"adapter"}  # no log, no scratch


def test_another_seed_is_told_apart(alone, tmp_path):
    """The tolerance above is far below what another start makes."""
    _, weights, _ = alone
    found, _ = train(tmp_path / "adapter", settings(seed=1))
    assert all((weight - found[name]).norm() > 0.1 * weight.norm() for name, weight in weights.items())


def look_at_the_shards() -> None:
    """In each process: half of every weight, and the same answer as the whole model."""
    import torch
    from torch.distributed.tensor import DTensor

    from olivepress.modeling.dequantize import load_model

    tokens = torch.arange(1, 9).unsqueeze(0)
    model = load_model(TINY, dtype=torch.float32)
    with torch.no_grad():
        expected = model(tokens).logits
    whole = sum(weight.numel() for weight in model.parameters())
    lora_parallel.shard(model, "cpu")
    assert all(isinstance(weight, DTensor) for weight in model.parameters())
    held = sum(weight.to_local().numel() for weight in model.parameters())
    assert 0.45 * whole < held < 0.55 * whole, (held, whole)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, expected)


def test_fsdp_shares_the_weights_out():
    lora_parallel.launch(look_at_the_shards, processes=2)


def fail() -> None:
    raise PressError("the data are wrong")


def die() -> None:
    os._exit(3)


def test_a_mistake_in_the_input_comes_out_of_the_processes_as_itself():
    with pytest.raises(PressError, match=r"^the data are wrong$"):
        lora_parallel.launch(fail, processes=2)


def test_a_process_that_dies_is_named():
    with pytest.raises(PressError, match=r"finetune\.processes: process \d of 2 ended with status 3"):
        lora_parallel.launch(die, processes=2)


def arguments(folder: Path, *options: str) -> list[str]:
    """The stage's, with data and places in ``folder``."""
    data = folder / "data"
    data.mkdir()
    for side in ("train", "held_out"):
        write_prepared(data / f"{side}.jsonl", ROWS[:8])
    outputs = ("--out", "out", "--quality", "q.json", "--plot", "p.csv")
    places = [place if place.startswith("--") else str(folder / place) for place in outputs]
    return ["--model", str(TINY), "--data", str(data), *places, *options]


def test_a_signal_ends_all_processes_and_leaves_nothing(tmp_path):
    size = ["--batch-size", "4", "--sequence-length", "64", "--dtype", "float32", "--steps", "5000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.finetune", *arguments(tmp_path, "--processes", "2", "--parallel", "ddp", *size)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen = ""
    while "'loss'" not in seen:  # the Trainer's log: the work is under way
        piece = process.stdout.readline()
        assert piece, seen
        seen += piece
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, rest
    assert "Terminated: nothing was written" in rest
    assert "SignalException" not in rest
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--processes", "2"], "finetune.parallel: is none with finetune.processes 2: one process takes none"),
        (["--parallel", "ddp"], "finetune.parallel: is ddp with finetune.processes 1"),
        (
            ["--processes", "3", "--parallel", "ddp", "--batch-size", "8"],
            "finetune.batch_size: 8 rows cannot be shared out among 3 processes",
        ),
        (
            ["--processes", "99", "--parallel", "ddp", "--batch-size", "99", "--device", "cuda"],
            "finetune.processes: 99, but this machine has ",
        ),
        (["--method", "dpo", "--packing"], "no preference (chosen and rejected)"),
        (["--processes", "2", "--parallel", "dp"], "'dp' is not one of 'none', 'ddp', 'fsdp'"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path, options, message):
    done = run_stage("finetune", *arguments(tmp_path, *options))
    assert done.exit_code != 0
    assert message in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
