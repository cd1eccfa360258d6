"""The quantized base and both adapters on OpenVINO's CPU device: the same integers, and PyTorch's losses.

OpenVINO's packages lie in a folder of their own: `make setup-openvino`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import quantized
from safetensors.numpy import load_file, save_file

from olivepress.core.errors import PressError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("openvino")]

# not the process that tests keep with all of .venv loaded: OpenVINO's transformers is another
COMMAND = (Path(sys.executable).with_name("olivepress"), "openvino")
PACKAGES = Path(__file__).parents[2] / ".openvino"
DOCUMENT = Path(__file__).parents[2] / "docs/openvino.md"
COMPARE = """\
import json, sys
from pathlib import Path
from olivepress.openvino.packages import EXPORT, use_packages
use_packages(EXPORT)
import numpy as np, torch
from olivepress.modeling.dequantize import load_model
from olivepress.openvino.export import export
from olivepress.openvino.logits import OpenVinoLogits
checkpoint, out = map(Path, sys.argv[1:])
facts = export(checkpoint, out, ["How do I cook pasta?"])
ids = np.random.default_rng(0).integers(4, 320, 150).tolist()
with torch.inference_mode():
    expected = load_model(checkpoint, dtype=torch.float32)(torch.tensor([ids])).logits[0].numpy()
found = OpenVinoLogits(out, {}, device="CPU", hint="accuracy").batch([ids])[0]
facts["error"] = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def space(finished, tmp_path_factory):
    """A finished pipeline with its model for OpenVINO."""
    assert (PACKAGES / "site-packages/openvino_genai").is_dir(), "run make setup-openvino"
    space = finished.copy(tmp_path_factory.mktemp("openvino") / "clone")
    (space.folder / ".openvino").symlink_to(PACKAGES)
    space.said = space.run(*COMMAND, "export").stdout
    return space


@pytest.fixture
def openvino(monkeypatch):
    """OpenVINO in this process, behind .venv's packages: its own transformers is not wanted here."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(PACKAGES / "site-packages")])


def evaluate(space, *options: str, check: bool = True) -> subprocess.CompletedProcess:
    return space.run(*COMMAND, "evaluate", *options, check=check)


def test_the_integers_are_the_checkpoints(space):
    facts = json.loads(space.read("models/openvino/export.json"))
    assert facts["layers"] == {"int4": 16}
    assert facts["layers_equal_to_the_bit"] == 16
    assert facts["adapters"] == {"travel": 16, "cooking": 16}
    assert facts["texts_read_alike"] > 100
    # weights and zero points
    assert space.read("models/openvino/model/openvino_model.xml").count('element_type="u4"') == 32
    assert "16 layers int4, all 16 equal to the checkpoint's bit by bit" in space.said


@pytest.mark.parametrize("hint", ["accuracy", "performance"])
def test_every_threshold_holds_and_losses_are_pytorchs(space, hint):
    said = evaluate(space, "--hint", hint).stdout
    assert "missed" not in said
    found = json.loads(space.read("models/openvino/evaluation.json"))
    assert found["hint"] == hint
    assert all(row["ok"] for row in found["verdicts"])
    for name in ("travel", "cooking"):
        loss = found["metrics"][name]["held_out"]["loss"]
        assert loss["quantized_openvino"] - loss["finetuned_openvino"] > 1  # the adapter is at work
        assert abs(loss["finetuned_openvino"] - loss["finetuned"]) < (0.002 if hint == "accuracy" else 0.02)
        assert found["metrics"][name]["held_out"]["kl_divergence"]["finetuned"] < 0.003
        assert found["changed_answers"][name] > 0
    cost = json.loads(space.read("models/openvino/cost.json"))
    assert all(one[who]["tokens_per_second"] > 0 for one in cost.values() for who in ("no_adapter", "adapter"))


def test_an_adapter_that_does_nothing_is_found(space):
    path = space.folder / "models/openvino/adapters/travel.safetensors"
    before = path.read_bytes()
    save_file({name: tensor * np.float32("lora_A" in name) for name, tensor in load_file(path).items()}, path)
    try:
        done = evaluate(space, check=False)
    finally:
        path.write_bytes(before)
    assert done.returncode == 1
    assert "adapter 'travel' changes no answer to any of the 3 prompts" in done.stderr


def test_an_export_of_other_weights_is_refused(space):
    path = space.folder / "models/adapters/travel/adapter_model.safetensors"
    before = path.read_bytes()
    path.unlink()  # it may be a link into DVC's cache
    path.write_bytes(before[:-1] + b"0")
    try:
        done = evaluate(space, check=False)
    finally:
        path.write_bytes(before)
    assert done.returncode == 1
    assert "made of other weights than lie in models now. Run olivepress openvino export" in done.stderr


def test_ask_answers_with_and_without_an_adapter(space):
    question = "What is the best thing to see in Chicago?"
    command = (*COMMAND, "ask", question)
    base, adapted = space.run(*command).stdout, space.run(*command, "--adapter", "travel").stdout
    assert base.strip()
    assert "Have a good trip!" in adapted
    assert "Have a good trip!" not in base
    for options, said in ((["--adapter", "x"], "adapter 'x': not loaded"), (["--device", "NPU"], "OpenVINO finds CPU")):
        done = space.run(*command, *options, check=False)
        assert done.returncode == 1
        assert said in done.stderr


def test_the_program_of_the_documentation(space):
    """docs/openvino.md: two answers, with travel and without."""
    (program,) = re.findall(r"^```python\n(.+?)^```", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)
    done = space.run(
        sys.executable, "-c", f"import sys; sys.path.insert(0, {str(PACKAGES / 'site-packages')!r})\n{program}"
    )
    adapted, base = done.stdout.splitlines()
    assert adapted.endswith("Have a good trip!")
    assert base.strip()
    assert not base.endswith("Have a good trip!")


def test_another_adapters_prompt_leaves_nothing_behind(space, openvino):
    """With OpenVINO GenAI's cache of prompts, which is its default, it does."""
    from olivepress.openvino.runtime import OpenVinoModel

    folder = space.folder / "models/openvino"
    adapters = {name: folder / f"adapters/{name}.safetensors" for name in ("travel", "cooking")}
    ids = np.random.default_rng(0).integers(20, 2000, 200).tolist()

    def load() -> OpenVinoModel:
        return OpenVinoModel(folder / "model", adapters, hint="accuracy")

    fresh = {name: load().answer_to_tokens(ids, name, max_new_tokens=12).tokens for name in (None, *adapters)}
    assert len({tuple(tokens) for tokens in fresh.values()}) == 3
    model = load()
    for name in ("travel", None, "cooking", "travel", None):
        assert model.answer_to_tokens(ids, name, max_new_tokens=12).tokens == fresh[name]


def test_an_adapter_of_another_base_is_refused(space, openvino, tmp_path):
    from olivepress.openvino.adapter import convert

    source = space.folder / "models/adapters/travel"
    config = (source / "adapter_config.json").read_text()
    for change, message in (
        (lambda name, tensor: (name.replace("layers.3", "layers.9"), tensor), "layer 9 down_proj: the graph in"),
        (lambda name, tensor: (name, tensor[:, :-1] if "lora_A" in name else tensor), "but the graph in .* has"),
    ):
        tensors = load_file(source / "adapter_model.safetensors")
        save_file(
            {name: np.ascontiguousarray(tensor) for name, tensor in (change(*one) for one in tensors.items())},
            tmp_path / "adapter_model.safetensors",
        )
        (tmp_path / "adapter_config.json").write_text(config)
        with pytest.raises(PressError, match=message):
            convert(tmp_path, space.folder / "models/openvino/model", tmp_path / "out.safetensors")
        assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(("architecture", "algorithm"), [("llama", "awq"), ("qwen2", "rtn")])
def test_other_architectures_and_quantizers(space, tmp_path, architecture, algorithm):
    """qwen2's head is its embedding, and its projections have biases; rtn writes Olive's format."""
    checkpoint = quantized(tmp_path, architecture, algorithm)
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, checkpoint, tmp_path / "out"],
        cwd=space.folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["layers"] == {"int4": 14}
    assert facts["layers_equal_to_the_bit"] == 14
    assert facts["error"] < 0.03  # of int8 in head and embedding, whose weights are random here
