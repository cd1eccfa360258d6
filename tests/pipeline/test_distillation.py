"""Distillation: the scales and norms that ship are those of a model nearer to the float one; nothing else changes."""

import json
import shutil

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tiny_models import make_checkpoint, random_blocks
from torch.nn import functional

from olivepress.core.errors import PressError
from olivepress.core.outputs import sha256
from olivepress.modeling.dequantize import load_model
from olivepress.quantize.awq import quantize_awq
from olivepress.quantize.distillation import GridLinear, distill
from olivepress.quantize.mixed_precision import Format
from olivepress.quantize.olive import quantize_olive
from stages.quantize import main

pytestmark = pytest.mark.usefixtures("one_thread")

COMMON = {"blocks": random_blocks(6, 64), "group_size": 64, "trust_remote_code": False}
EIGHT = {"model.layers.0.mlp.down_proj": Format(8, 64)}
SETTINGS = {"steps": 24, "seed": 0, "device": "cpu", "trust_remote_code": False}
BLOCKS = random_blocks(48, 64, seed=1)


def quantized(architecture: str, kind: str, folder):
    """(base, checkpoint) of a tiny random model."""
    base, out = folder / "base", folder / kind
    make_checkpoint(architecture, base)
    if kind.startswith("awq"):
        formats = EIGHT if kind == "awq mixed" else None
        zero_point = kind != "awq symmetric"
        quantize_awq(base, out, device="cpu", exact=False, formats=formats, zero_point=zero_point, **COMMON)
    else:
        quantize_olive(base, out, algorithm=kind, bits=4, zero_point=True, **COMMON)
    return base, out


def divergence(base, folder) -> float:
    """KL divergence of ``folder``'s predictions from ``base``'s on other text, in nats a token."""
    rows = torch.tensor(random_blocks(8, 64, seed=2))
    with torch.inference_mode():
        expected, found = (
            load_model(path, dtype=torch.float32)(rows).logits.log_softmax(-1) for path in (base, folder)
        )
    return float(functional.kl_div(found, expected, reduction="sum", log_target=True)) / rows.numel()


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("llama", "awq"),
        ("phi3", "awq symmetric"),
        ("llama", "awq mixed"),
        ("qwen2", "rtn"),  # its layers have biases, its head is its embedding
        ("gemma", "kquant"),  # whose norms add one to their weights
    ],
)
def test_a_checkpoint_comes_nearer_to_the_float_model(tmp_path, architecture, kind):
    base, folder = quantized(architecture, kind, tmp_path)
    before, tensors = divergence(base, folder), load_file(folder / "model.safetensors")
    again = shutil.copytree(folder, tmp_path / "again")
    found = distill(base, folder, blocks=BLOCKS, **SETTINGS)
    assert found["last"] < 0.93 * found["first"]
    assert divergence(base, folder) < 0.97 * before  # random weights say little of other text
    after = load_file(folder / "model.safetensors")
    assert after.keys() == tensors.keys()
    trained = {name for name, tensor in after.items() if not torch.equal(tensor, tensors[name])}
    assert trained == {name for name in after if name.endswith((".scales", "norm.weight"))}
    for name in trained:
        assert after[name].dtype == tensors[name].dtype
        moved = (after[name].float() - tensors[name].float()).abs().max() / tensors[name].float().abs().max()
        assert 0 < moved < 0.1, name
    assert json.loads((folder / "config.json").read_text())["quantization_config"]["distill_steps"] == 24
    distill(base, again, blocks=BLOCKS, **SETTINGS)
    assert sha256(again / "model.safetensors") == sha256(folder / "model.safetensors")


def test_scales_get_the_gradient_that_the_weights_say():
    """Beside PyTorch's own way back through the dequantized weight, a bias and a group of zeros included."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.rand(6, 3, generator=generator) + 0.1
    scales[2, 1] = 0
    integers = torch.randint(-8, 8, (6, 3, 4), generator=generator)
    bias, x, weights_of_y = (torch.randn(shape, generator=generator) for shape in ((6,), (2, 5, 12), (2, 5, 6)))
    layer = GridLinear((integers * scales[..., None]).flatten(1), scales, bias)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    change = torch.zeros_like(scales).requires_grad_()
    weight = (integers * (scales * (1 + change))[..., None]).flatten(1)
    y, expected = layer(ours), functional.linear(theirs, weight, bias)
    assert torch.allclose(y, expected)
    for value in (y, expected):
        (value * weights_of_y).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)
    assert torch.allclose(layer.change.grad, change.grad, atol=1e-4)
    assert change.grad.abs().max() > 0.1


def test_fewer_blocks_than_a_step_takes(tmp_path):
    base, folder = quantized("llama", "rtn", tmp_path)
    found = distill(base, folder, blocks=BLOCKS[:3], **{**SETTINGS, "steps": 3})
    assert 0 < found["last"] < found["first"]


def test_a_model_that_overflows_is_told_and_left_alone(tmp_path):
    base, folder = quantized("llama", "rtn", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.scales"
    save_file({**tensors, name: torch.full_like(tensors[name], torch.inf)}, folder / "model.safetensors")
    before = sha256(folder / "model.safetensors")
    with pytest.raises(PressError, match=r"quantize\.distill_steps: the divergence .* is not finite at step 1"):
        distill(base, folder, blocks=BLOCKS, **SETTINGS)
    assert sha256(folder / "model.safetensors") == before


def test_the_stage_says_what_it_won_and_refuses_autoawqs_bytes(tmp_path):
    make_checkpoint("llama", tmp_path / "base")
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": f"{n} is what {n * n} is the square of."}) + "\n" for n in range(99)))
    command = [f"--base={tmp_path / 'base'}", f"--calibration-data={text}", f"--out={tmp_path / 'out'}"]
    command += ["--group-size=64", "--samples=8", "--sequence-length=64", "--distill-steps=8"]
    command += [f"--{kind}={tmp_path / f'{kind}.json'}" for kind in ("quality", "cost")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code
    assert "quantize.distill_steps: trains what AutoAWQ wrote" in done.output
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(main, [*command, "--no-exact"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "quality.json").read_text())["distillation_kl_divergence"]
    assert 0 < found["last"] < found["first"]
