"""The stage scripts as a user types them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = sorted(path.name for path in (ROOT / "stages").glob("*.py"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
QUANTIZE = ["quantize.py", "--base", "data/tiny-phi3", "--calibration-data", "data/calibration.jsonl"]


def command(out: Path, *arguments: str) -> list[str]:
    script, *rest = arguments
    places = ["--out", str(out), "--quality", str(out.parent / "quality.json")]
    return [sys.executable, f"stages/{script}", *rest, *places]


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture
def earlier(tmp_path):
    """An output of an earlier run, which nothing that fails may touch."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/kept").write_text("kept")
    return tmp_path / "out"


@pytest.mark.parametrize("script", STAGES)
def test_help_never_loads_torch(script):
    done = run(sys.executable, "-X", "importtime", f"stages/{script}", "--help")
    assert done.returncode == 0 and "--cost" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {"torch", "transformers", "olive", "onnx", "numpy", "onnxruntime"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*QUANTIZE, "--algoritm", "awq"], "No such option '--algoritm'. (Did you mean one of: '--algorithm'"),
        ([*QUANTIZE, "--algorithm", "magic"], "'magic' is not one of 'awq', 'rtn', 'gptq', 'kquant'"),
        ([*QUANTIZE, "--samples", "many"], "'many' is not a valid integer"),
        ([*QUANTIZE, "--samples", "0"], "0 is not in the range x>=1"),
        ([*QUANTIZE, "--bits", "8"], "quantize.bits: awq packs 4 bits, not 8"),
        ([*QUANTIZE, "--samples", "9999"], "too little calibration data"),
        (["fetch.py", "--source", "data/tiny-phi3", "--watch", "elsewhere"], "model.watch: is elsewhere"),
    ],
)
def test_bad_params_fail_with_a_message_and_touch_nothing(earlier, arguments, message):
    done = run(*command(earlier, *arguments))
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (earlier / "kept").read_text() == "kept"
    assert {path.name for path in earlier.parent.iterdir()} == {"out"}


def test_an_offline_hub_is_a_clear_error(earlier):
    source = "hf://owner/name@" + "0" * 40
    environment = {**ENVIRONMENT, "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        command(earlier, "fetch.py", "--source", source),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert f"model.source: {source}: the hub cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert (earlier / "kept").read_text() == "kept"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_leaves_no_partial_output(earlier, number, status):
    process = subprocess.Popen(
        command(earlier, *QUANTIZE, "--group-size", "32", "--samples", "64", "--sequence-length", "128"),
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen = ""
    while "AWQ:" not in seen:  # AutoAWQ's own progress bar: the work is under way
        piece = process.stderr.read(1)
        assert piece, seen
        seen += piece
    time.sleep(1)
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == status, rest
    assert "partial outputs removed" in rest
    assert {path.name for path in earlier.parent.iterdir()} == {"out"}
    assert (earlier / "kept").read_text() == "kept"
