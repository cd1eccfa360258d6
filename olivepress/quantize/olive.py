"""Olive's own weight quantizers (rtn, gptq, kquant) under the options that AWQ has."""

import importlib
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError, first_sentence
from olivepress.modeling.olive_pass import run_pass
from olivepress.quantize.group_size import check_group_size, linear_layers
from olivepress.quantize.mixed_precision import Format, overrides

# algorithm -> Olive module and pass, and whether it looks at calibration data
PASSES = {
    "rtn": ("olive.passes.pytorch.rtn", "Rtn", False),
    "gptq": ("olive.passes.pytorch.gptq", "Gptq", True),
    "kquant": ("olive.passes.pytorch.kquant", "KQuant", False),
}


def quantize_olive(
    base: Path,
    out: Path,
    *,
    algorithm: str,
    blocks: list[list[int]],
    bits: int,
    group_size: int,
    zero_point: bool,
    trust_remote_code: bool,
    formats: dict[str, Format] | None = None,
) -> None:
    """Write an Olive-quantized Hugging Face checkpoint of ``base`` to ``out``.

    Weights are [out, in·bits/8] uint8, scales [out, in/group]; ``zero_point`` adds packed zero points.
    ``blocks`` is the calibration data, read by gptq alone. ``formats``: of the layers that have another than
    ``bits`` in groups of ``group_size``.
    """
    check_group_size(linear_layers(base), group_size)
    module, name, calibrated = PASSES[algorithm]
    config: dict[str, Any] = {"bits": bits, "group_size": group_size, "sym": not zero_point}
    if formats:
        config["overrides"] = overrides(formats)
    if calibrated:
        config["data_config"] = _data_config(blocks)
    pass_class = getattr(importlib.import_module(module), name)
    try:
        run_pass(pass_class, config, base, out, trust_remote_code=trust_remote_code)
    except AssertionError as error:
        raise PressError(
            f"{base}: {algorithm} cannot quantize it: a layer has weights for which there is no scale, so small or so "
            f"large are they ({first_sentence(error)}). Choose another model, or another algorithm."
        ) from error


def _data_config(blocks: list[list[int]]) -> dict[str, Any]:
    """Our token blocks, under a name that Olive's data registry knows."""
    import torch
    from olive.data.registry import Registry

    @Registry.register_dataset("press_calibration")
    def press_calibration(**_: Any) -> list[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        ids = [torch.tensor(block) for block in blocks]
        return [({"input_ids": row, "attention_mask": torch.ones_like(row)}, row) for row in ids]

    skip = {"type": "skip_pre_process"}
    return {
        "name": "press_calibration",
        "load_dataset_config": {"type": "press_calibration"},
        "pre_process_data_config": skip,
        "post_process_data_config": {"type": "skip_post_process"},
        "dataloader_config": {"params": {"batch_size": 1}},
    }
