"""AWQ without AutoAWQ's exact bytes: another way to the same errors, and weights as good."""

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import make_checkpoint, random_blocks, relative_error, torch_logits

from olivepress.modeling.dequantize import load_model
from olivepress.quantize.awq import quantize_awq
from olivepress.quantize.clip_search import best_clip, gram_errors, output_errors
from olivepress.quantize.grid import to_grid
from olivepress.quantize.group_products import GroupProducts

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def layer() -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [64, 128], and inputs [3, 100, 128] of which some channels are ten times as large."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 128, generator=generator)
    inputs = torch.randn(3, 100, 128, generator=generator)
    return weight, inputs * torch.where(torch.arange(128) % 17 == 0, 10.0, 1.0)


def test_gram_matrices_give_the_errors_that_products_give(layer):
    weight, inputs = layer

    def rounded(w: torch.Tensor) -> torch.Tensor:
        return to_grid(w, 32, zero_point=True)[0]

    by_gram = gram_errors(weight, inputs, 32, quantize=rounded)
    by_product = output_errors(weight, inputs, quantize=rounded, products=GroupProducts(32))
    clipped = weight.clamp(-1.5, 1.5)
    assert torch.allclose(by_gram(clipped), by_product(clipped), rtol=1e-3)
    assert torch.equal(best_clip(weight, 32, errors=by_gram), best_clip(weight, 32, errors=by_product))


@pytest.mark.parametrize(
    ("architecture", "zero_point"), [("phi3", True), ("llama", True), ("qwen2", False), ("qwen3", True)]
)
def test_as_good_as_exact(tmp_path, architecture, zero_point):
    """On tokens that it was calibrated on and on others: 12 sequences of 100, more than a block's search looks at."""
    base = tmp_path / "base"
    make_checkpoint(architecture, base)
    plain = load_model(base, dtype=torch.float32)
    errors = {}
    for exact in (True, False):
        out = tmp_path / f"exact-{exact}"
        quantize_awq(
            base,
            out,
            blocks=random_blocks(12, 100),
            group_size=32,
            zero_point=zero_point,
            device="cpu",
            trust_remote_code=False,
            exact=exact,
        )
        model = load_model(out, dtype=torch.float32)
        errors[exact] = [
            relative_error(torch_logits(model, ids), torch_logits(plain, ids)) for ids in random_blocks(3, 80, seed=5)
        ]
    exact, quick = (sum(errors[key]) for key in (True, False))
    assert 0.9 * exact < quick < 1.1 * exact
    files = [load_file(tmp_path / f"exact-{exact}" / "model.safetensors") for exact in (True, False)]
    shapes = [{name: (tensor.dtype, tensor.shape) for name, tensor in file.items()} for file in files]
    assert shapes[0] == shapes[1], "float16 and int32 alike, though it was computed in float32"


def test_same_bytes_twice(tmp_path):
    make_checkpoint("llama", tmp_path / "base")
    for name in ("one", "two"):
        options = {"group_size": 32, "zero_point": True, "device": "cpu", "trust_remote_code": False, "exact": False}
        quantize_awq(tmp_path / "base", tmp_path / name, blocks=random_blocks(4, 64), **options)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    assert "float16" in (tmp_path / "one/config.json").read_text()
