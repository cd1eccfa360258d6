"""The faster export writes the very files that the builder as it comes writes, byte for byte."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import EXTRAS, make_checkpoint, random_blocks

from olivepress.core.outputs import sha256
from olivepress.export.awq_weights import detour_changes_nothing, pair_rows
from olivepress.export.fast_builder import fast_builder, in_blocks
from olivepress.export.model_builder import Target, export
from olivepress.quantize.awq import quantize_awq

TARGETS = {
    "cpu": Target("CPUExecutionProvider", "int4", "int8", "int8"),
    "cuda": Target("CUDAExecutionProvider", "int4", "float", "float16"),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("architecture", "group_size"), list(zip(EXTRAS, (32, 128, 32, 128, 32), strict=True)))
def test_same_bytes_as_the_builder(tmp_path, monkeypatch, architecture, group_size):
    """All files but Olive's model_config.json, which holds paths; groups of 128: an odd number of zero points a row."""
    make_checkpoint(architecture, tmp_path / "base")
    quantize_awq(
        tmp_path / "base",
        tmp_path / "quantized",
        blocks=random_blocks(2, 64),
        group_size=group_size,
        zero_point=True,
        device="cpu",
        trust_remote_code=False,
    )
    moved = []
    monkeypatch.setattr(
        "olivepress.export.awq_weights.pair_rows", lambda words: moved.append(words.shape) or pair_rows(words)
    )
    for name, target in TARGETS.items():
        hashes = []
        for upstream in (True, False):
            out = tmp_path / f"{name}-{upstream}"
            moved.clear()
            export(tmp_path / "quantized", out, target, upstream=upstream)
            assert bool(moved) is not upstream
            files = sorted(path for path in out.iterdir() if path.name != "model_config.json")
            hashes.append({path.name: sha256(path) for path in files})
        theirs, ours = hashes
        assert ours == theirs
        assert {"model.onnx", "model.onnx.data"} <= ours.keys()


def module(group_size: int, scale: torch.Tensor) -> SimpleNamespace:
    """An AWQ layer [256 inputs, 64 outputs] that holds every pair of weight and zero point."""
    generator = torch.Generator().manual_seed(0)
    words = [torch.randint(-(1 << 31), 1 << 31, (rows, 8), generator=generator) for rows in (256, 256 // group_size)]
    return SimpleNamespace(
        qweight=words[0].to(torch.int32),
        qzeros=words[1].to(torch.int32),
        scales=scale.expand(256 // group_size, 64).clone(),
        g_idx=None,
        bits=4,
        group_size=group_size,
        in_features=256,
        out_features=64,
    )


@pytest.mark.parametrize("group_size", [16, 32, 128, 256])
@pytest.mark.parametrize("scale", [2**-24, 7e-7, 6e-5, 1e-3, 0.0317, 1.0, 4000.0])
def test_the_detour_changes_no_integer(group_size, scale):
    """Subnormal to large scales: the builder's own unpacking, multiplying out, rounding and packing, and ours."""
    from onnxruntime_genai.models.quantized_model import AWQModel

    model = AWQModel.__new__(AWQModel)
    theirs = module(group_size, torch.tensor(scale).half())
    ours = module(group_size, torch.tensor(scale).half())
    assert detour_changes_nothing(ours)
    model.unpack(theirs)
    model.repack(theirs)
    with fast_builder():
        model.unpack(ours)
        model.repack(ours)
    for name in ("qweight", "qzeros", "scales"):
        expected, found = getattr(theirs, name), getattr(ours, name)
        assert (expected.dtype, expected.shape) == (found.dtype, found.shape)
        assert torch.equal(expected, found), name


@pytest.mark.parametrize("scale", [0.0, float("inf"), float("nan"), 5000.0, -1.0])
def test_odd_scales_are_left_to_the_builder(scale):
    assert not detour_changes_nothing(module(32, torch.tensor(scale).half()))


def test_the_builder_is_itself_again_afterwards():
    from onnxruntime_genai.models.quantized_model import AWQModel

    before = AWQModel.unpack, AWQModel.repack
    with pytest.raises(KeyError), fast_builder():
        assert AWQModel.repack is not before[1]
        raise KeyError
    assert (AWQModel.unpack, AWQModel.repack) == before


@pytest.mark.parametrize(("bits", "group_size"), [(8, 32), (4, 32), (8, 128)])
def test_k_quant_is_the_same_in_blocks(bits, group_size):
    """A transposed matrix, as the builder passes it; several blocks and a rest; groups of one value and of 0."""
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    generator = np.random.default_rng(0)
    data = generator.normal(0, 0.02, (256, 1037)).astype(np.float16)
    data[:, 5], data[:, 7] = 0, 0.5
    expected = quant_tensor_k_quant_cpu(data.T, bits, group_size)
    found = in_blocks(quant_tensor_k_quant_cpu)(data.T, bits, group_size)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()
