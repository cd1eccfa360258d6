"""What stands before OpenVINO: its packages, and a checkpoint's integers as its constants get them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from olivepress import cli
from olivepress.core.errors import PressError
from olivepress.modeling.dequantize import linear_weights
from olivepress.openvino.packages import use_packages
from olivepress.openvino.weights import packed_layers, read_settings

ROOT = Path(__file__).parents[1]
OUTPUTS, INPUTS, GROUP = 16, 64, 32


def checkpoint(folder: Path, tensors: dict[str, torch.Tensor], **settings: object) -> Path:
    save_file(
        {f"model.layers.0.mlp.down_proj.{name}": tensor for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    config = {"quantization_config": {"bits": 4, "group_size": GROUP, **settings}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def words(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31, shape, generator=torch.Generator().manual_seed(sum(shape))).int()


def awq(folder: Path, **settings: object) -> Path:
    groups = INPUTS // GROUP
    scales = torch.rand(groups, OUTPUTS, generator=torch.Generator().manual_seed(0)).half()
    tensors = {"qweight": words(INPUTS, OUTPUTS // 8), "qzeros": words(groups, OUTPUTS // 8), "scales": scales}
    return checkpoint(folder, tensors, **{"quant_method": "awq", **settings})


def olive(folder: Path, bits: int, *, zeros: bool) -> Path:
    groups, each = INPUTS // GROUP, 8 // bits

    def some(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(sum(shape)))

    tensors = {"qweight": some(OUTPUTS, INPUTS // each), "scales": torch.rand(OUTPUTS, groups) + 0.1}
    if zeros:
        tensors["qzeros"] = some(OUTPUTS, max(1, groups // each))
    return checkpoint(folder, tensors, quant_method="olive", bits=bits, symmetric=not zeros)


@pytest.mark.parametrize(
    ("make", "bits"),
    [
        (awq, 4),
        (lambda folder: olive(folder, 4, zeros=True), 4),
        (lambda folder: olive(folder, 4, zeros=False), 4),
        (lambda folder: olive(folder, 8, zeros=True), 8),
    ],
    ids=["awq", "olive", "olive symmetric", "olive 8 bits"],
)
def test_integers_zeros_and_scales_are_the_checkpoints(tmp_path, make, bits):
    folder = make(tmp_path)
    ((module, packed),) = packed_layers(folder)
    ((name, expected),) = linear_weights(folder, read_settings(folder))
    assert name == f"{module}.weight"
    assert packed.bits == bits
    assert packed.integers.dtype == packed.zeros.dtype == np.uint8
    assert packed.integers.max() > 2 ** (bits - 1)
    assert packed.integers.max() < 2**bits
    groups = packed.integers.reshape(OUTPUTS, -1, GROUP).astype(np.float32)
    found = (groups - packed.zeros[..., None].astype(np.float32)) * packed.scales[..., None].astype(np.float32)
    assert np.array_equal(found.reshape(OUTPUTS, INPUTS), expected.numpy())


@pytest.mark.parametrize("settings", [{"quant_method": "gptq"}, {"bits": 8}])
def test_a_format_that_is_not_known_is_refused(tmp_path, settings):
    with pytest.raises(PressError, match=r"config\.json: model\.layers\.0\.mlp\.down_proj is of"):
        list(packed_layers(awq(tmp_path, **settings)))


def test_a_checkpoint_without_quantization_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PressError, match="no quantization_config"):
        list(packed_layers(tmp_path))


@pytest.mark.parametrize("words", [("export",), ("ask", "hi"), ("evaluate",)])
def test_without_openvino_every_command_says_how_to_install_it(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.main, ["openvino", *words])
    assert done.exit_code == 1
    assert done.output.startswith("Error: openvino is not installed")
    assert "make setup-openvino" in done.output


def test_no_usage_data_are_sent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)  # taken back after the test
    del sys.modules["openvino_telemetry"]
    use_packages(())
    with pytest.raises(ImportError):
        __import__("openvino_telemetry")
    assert "openvino-telemetry==" not in (ROOT / "requirements-openvino.txt").read_text()


def test_a_package_that_is_there_is_not_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PressError, match="nowhere_at_all is not installed"):
        use_packages(("json", "nowhere_at_all"))
