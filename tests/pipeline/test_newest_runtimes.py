"""What the lock's ONNX Runtime and GenAI export runs in the newest ones, and the newest ONNX Runtime exports the same.

`make setup-test-services` puts these beside the environment. Olive's pass cannot call GenAI's builder of 0.15.2 and
later (docs/log/2026-11-28-webgpu.md), so exports are made with the lock's GenAI.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NEWEST_GENAI = ROOT / ".services/newest"  # with its ONNX Runtime
NEWEST_ONNXRUNTIME = ROOT / ".services/webgpu"  # with the lock's GenAI
ASK = """\
import json, sys
from pathlib import Path
import onnxruntime, onnxruntime_genai
from olivepress.runtime.genai import Model

folder = Path(sys.argv[1])
files = {path.name.partition(".")[0]: path for path in sorted((folder / "adapters").iterdir())}
found = {}
for graph in ("portable", "operators"):
    model = Model(folder / "model", files, template="chat", graph=graph)
    for name in (None, *files):
        for prompt in ("What is the best thing to see in Chicago?", "how do i cook pasta"):
            found[f"{graph}, {name}: {prompt}"] = model.answer(prompt, name, max_new_tokens=32).tokens
print(json.dumps([onnxruntime.__version__, onnxruntime_genai.__version__, found]))
"""


def run(packages: Path | None, *command: str | Path, folder: Path = ROOT) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, [packages, folder])))}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_tokens_are_the_same_in_both_with_adapters_on_and_off(finished):
    folder = finished.folder / "models/onnx/cpu-int4"
    answers = [
        json.loads(run(packages, "-c", ASK, folder).splitlines()[-1])
        for packages in (None, NEWEST_ONNXRUNTIME, NEWEST_GENAI)
    ]
    versions = [tuple(answer[:2]) for answer in answers]
    assert len(set(versions)) == 3, versions
    locked, *others = (answer[2] for answer in answers)
    assert len(locked) == 2 * 3 * 2
    assert locked["portable, None: how do i cook pasta"] != locked["portable, cooking: how do i cook pasta"]
    for found in others:
        assert found == locked


def test_the_newest_onnxruntime_exports_the_same_bytes(finished, tmp_path):
    places = ["--model", "models/quantized", "--params", "params.yaml", "--threads", "2"]
    outs = ["--out", tmp_path / "model", "--quality", tmp_path / "quality.json"]
    run(NEWEST_ONNXRUNTIME, "-m", "stages.auto_opt", *places, *outs, folder=finished.folder)
    locked = finished.folder / "models/onnx/cpu-int4/model"
    names = sorted(path.name for path in locked.iterdir())
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == names
    for name in names:
        assert (tmp_path / "model" / name).read_bytes() == (locked / name).read_bytes(), name


@pytest.mark.parametrize(("modules", "kept"), [("", True), ("olivepress, ", False)], ids=["alone", "by olivepress"])
def test_no_usage_data_are_kept_for_microsoft(tmp_path, modules, kept):
    """The newest keep a device's id and events to send, unless a variable is set before: this package sets it."""
    drop = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI")
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": f"{NEWEST_GENAI}{os.pathsep}{ROOT}"}
    code = f"import {modules}onnxruntime, onnxruntime_genai; print(onnxruntime.get_available_providers())"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (tmp_path / ".cache/Microsoft").exists() == kept
