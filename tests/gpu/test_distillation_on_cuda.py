"""Distillation on a GPU: the same bytes each time, and about what a CPU finds."""

import shutil
from pathlib import Path

import pytest
import torch
from prepared_rows import TINY

from olivepress.quantize.distillation import distill
from olivepress.quantize.olive import quantize_olive

BLOCKS = torch.randint(10, 2000, (24, 256), generator=torch.Generator().manual_seed(0)).tolist()


def test_scales_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    rounded = tmp_path / "rounded"
    options = {"blocks": BLOCKS[:1], "bits": 4, "group_size": 32, "zero_point": True, "trust_remote_code": False}
    quantize_olive(TINY, rounded, algorithm="rtn", **options)
    weights, found = [], []
    for name, device in (("one", "cuda"), ("two", "cuda"), ("cpu", "cpu")):
        folder = shutil.copytree(rounded, tmp_path / name)
        settings = {"blocks": BLOCKS, "steps": 16, "seed": 0, "trust_remote_code": False}
        found.append(distill(TINY, folder, device=device, **settings))
        weights.append((folder / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert found[0]["last"] < 0.9 * found[0]["first"]
    assert found[0] == pytest.approx(found[2], rel=0.02)
