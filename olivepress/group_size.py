"""Whether a checkpoint's layers can be cut into groups of weights that share a scale."""

from pathlib import Path

from olivepress import checkpoint
from olivepress.errors import PressError

SIZES = (16, 32, 64, 128)


def check_group_size(folder: Path, group_size: int) -> None:
    """PressError unless ``group_size`` divides the inputs of every linear layer: no quantizer here pads."""
    for name, info in checkpoint.tensors(folder).items():
        if ".layers." in name and len(info.shape) == 2 and info.shape[1] % group_size:
            fitting = ", ".join(str(size) for size in SIZES if info.shape[1] % size == 0)
            raise PressError(
                f"quantize.group_size: {group_size} does not divide {name}, which has {info.shape[1]} inputs. "
                f"Choose one that does: {fitting or 'none'}."
            )
