"""Whether a checkpoint's layers can be cut into groups of weights that share a scale."""

from pathlib import Path

from olivepress.core import checkpoint
from olivepress.core.errors import PressError

SIZES = (16, 32, 64, 128)


def linear_layers(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> (outputs, inputs) of the matrices in the decoder's layers, from the shards' headers."""
    return {
        name: info.shape
        for name, info in checkpoint.tensors(folder).items()
        if ".layers." in name and len(info.shape) == 2
    }


def check_group_size(layers: dict[str, tuple[int, int]], group_size: int) -> None:
    """PressError unless ``group_size`` divides the inputs of every one of ``layers``: no quantizer here pads."""
    for name, (_, inputs) in layers.items():
        if inputs % group_size:
            fitting = ", ".join(str(size) for size in SIZES if inputs % size == 0)
            raise PressError(
                f"quantize.group_size: {group_size} does not divide {name}, which has {inputs} inputs. "
                f"Choose one that does: {fitting or 'none'}."
            )
