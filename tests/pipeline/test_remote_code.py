"""Real quantization and export of a base that names code: none of it is fetched, run or copied."""

import os
import subprocess
import sys
from pathlib import Path

import test_trust
from hub import Hub
from test_trust import COMMIT, names_code

ROOT = Path(__file__).parents[2]
base = test_trust.base  # the fixture
STEPS = """
import sys
from pathlib import Path
from olivepress.export.model_builder import Target, export
from olivepress.quantize.olive import quantize_olive
base, out = map(Path, sys.argv[1:])
quantize_olive(base, out / "quantized", algorithm="rtn", blocks=[], bits=4, group_size=32, zero_point=True,
               trust_remote_code=False)
export(base, out / "onnx", Target("CPUExecutionProvider", "int4", "int8", "int8"))
"""


def test_olive_and_the_builder_fetch_run_and_copy_no_code(base, tmp_path):
    """Below the stages, which are offline besides: on a base that was not fetched, with a hub that would answer."""
    hub = Hub("press/code", COMMIT, {"evil.py": (base / "evil.py").read_bytes()})
    try:
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": "hf_secret",
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-c", STEPS, base, tmp_path / "out"],
            env={**os.environ, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert hub.requests == []
    finally:
        hub.close()
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "out").rglob("*.py")) == []
    assert names_code(tmp_path / "out") == set()
    assert (tmp_path / "out/onnx/model.onnx").is_file() and (tmp_path / "out/quantized/model.safetensors").is_file()
