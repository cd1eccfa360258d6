"""Finetuning in two processes on the CPU (gloo) against one: the same adapter, but for rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from olivepress import lora_parallel
from olivepress.errors import PressError
from olivepress.lora import LoraSettings, finetune

ROOT = Path(__file__).parents[1]
TINY = ROOT / "data/tiny-phi3"
ROWS = [json.loads(line) for line in (ROOT / "data/travel.jsonl").read_text(encoding="utf-8").splitlines()[:34]]
TEXTS = [f"<|user|>\n{row['prompt']}<|end|>\n<|assistant|>\n{row['response']}<|end|>\n" for row in ROWS]
# dropout draws in each process for itself; without it the processes must agree
SETTINGS = {
    "rank": 4,
    "alpha": 8,
    "dropout": 0.0,
    "target_modules": "default",
    "steps": 4,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "sequence_length": 64,
    "eval_steps": 2,
    "gradient_checkpointing": False,
    "seed": 0,
    "dtype": "float32",
    "device": "cpu",
}


def settings(processes: int, parallel: str, **changes) -> LoraSettings:
    return LoraSettings(**{**SETTINGS, **changes}, processes=processes, parallel=parallel)


def train(out: Path, wanted: LoraSettings) -> tuple[dict, list[dict]]:
    """The adapter's weights and the Trainer's log. The rows differ in length, and the last held-out batch is short."""
    from safetensors.torch import load_file

    log = finetune(TINY, TEXTS[:24], TEXTS[24:], out, wanted)
    return load_file(out / "adapter_model.safetensors"), log


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
    return folder, *train(folder, settings(1, "none"))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_what_one_does(alone, tmp_path, parallel):
    folder, weights, log = alone
    found, found_log = train(tmp_path / "adapter", settings(2, parallel))
    assert found.keys() == weights.keys()
    moved = max(weight.abs().max().item() for name, weight in weights.items() if "lora_B" in name)
    assert moved > 0.02  # it did learn: B starts at zero
    for name, weight in weights.items():
        assert (weight - found[name]).norm() < 1e-3 * weight.norm(), name
    for key in ("loss", "eval_loss"):
        expected = [entry[key] for entry in log if key in entry]
        assert [entry[key] for entry in found_log if key in entry] == pytest.approx(expected, abs=1e-4), key
    assert (tmp_path / "adapter/adapter_config.json").read_bytes() == (folder / "adapter_config.json").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"adapter"}  # no log, no scratch


def test_another_seed_is_told_apart(alone, tmp_path):
    """The tolerance above is far below what another start makes."""
    _, weights, _ = alone
    found, _ = train(tmp_path / "adapter", settings(1, "none", seed=1))
    assert all((weight - found[name]).norm() > 0.1 * weight.norm() for name, weight in weights.items())


def look_at_the_shards() -> None:
    """In each process: half of every weight, and the same answer as the whole model."""
    import torch
    from torch.distributed.tensor import DTensor

    from olivepress.dequantize import load_model

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
        (["--processes", "2", "--parallel", "dp"], "'dp' is not one of 'none', 'ddp', 'fsdp'"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path, options, message):
    data = tmp_path / "data"
    data.mkdir()
    for side in ("train", "held_out"):
        (data / f"{side}.jsonl").write_text(json.dumps({"text": TEXTS[0]}) + "\n")
    outputs = ("--out", "out", "--quality", "q.json", "--training-loss", "t.csv", "--held-out-loss", "h.csv")
    places = [str(tmp_path / place) if not place.startswith("--") else place for place in outputs]
    done = subprocess.run(
        [sys.executable, "-m", "stages.finetune", "--model", str(TINY), "--data", str(data), *places, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
