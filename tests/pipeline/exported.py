"""Tiny checkpoints, quantized and exported as stages/auto_opt.py does it."""

from pathlib import Path
from typing import Any

from tiny_models import GROUP, make_checkpoint, random_blocks

from olivepress.core.artifact import MODEL
from olivepress.export.model_builder import Target, export
from olivepress.export.operator_library import copy_libraries
from olivepress.export.surgery import transform
from olivepress.quantize.awq import quantize_awq
from olivepress.quantize.olive import quantize_olive

PROVIDER = "CPUExecutionProvider"
TARGET = Target(PROVIDER, "int4", "int8", "int8")


def quantized(folder: Path, architecture: str, algorithm: str = "rtn", **settings: Any) -> Path:
    """The checkpoint that ``algorithm`` makes of a random one with these settings in its configuration."""
    make_checkpoint(architecture, folder / "base", **settings)
    common = {"blocks": random_blocks(2, 64), "group_size": GROUP, "zero_point": True, "trust_remote_code": False}
    out = folder / "quantized"
    if algorithm == "awq":
        quantize_awq(folder / "base", out, device="cpu", **common)
    else:
        quantize_olive(folder / "base", out, algorithm=algorithm, bits=4, **common)
    return out


def exported(checkpoint: Path, out: Path, cache: str | None = None) -> Path:
    """The model with open LoRA inputs; with a ``cache``, a graph with operators beside it that keeps such a one."""
    export(checkpoint, out, TARGET)
    if cache is None:
        transform(out / MODEL, "all")
    elif transform(out / MODEL, "all", operators=PROVIDER, both=True, cache=cache).operators:
        copy_libraries(out)
    return out
