"""Plain LoRA read from a PEFT adapter folder from anywhere, or refused by name."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError
from olivepress.core.git import refuse_pointer
from olivepress.core.tensor_file import FLOATS, Stored, read_floats, read_header
from olivepress.export.adapter_config import CONFIG, passed_over, rank_of, read_adapter_config, scale_of

if TYPE_CHECKING:
    import numpy as np

    # (layer, module) -> A [rank, in], B [out, rank], float32
    Adapter = dict[tuple[int, str], tuple[np.ndarray, np.ndarray]]

WEIGHTS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
# The decoder's own layers: a model that sees or hears has others, with projections of the same names.
KEY = re.compile(
    r"(?:base_model\.model\.)?(?P<module>(?:model\.|language_model\.)*layers\.(?P<layer>0|[1-9]\d{0,5})"
    r"\.(?:\w+\.)?(?P<name>\w+))"
    r"\.lora_(?P<side>[AB])\.weight",
    re.ASCII,
)


def read_peft(folder: Path) -> "Adapter":
    """(layer, module) -> A [rank, in], B [out, rank] of a PEFT adapter folder, float32, the scaling folded into B.

    Raises PressError for anything that is not plain LoRA on linear layers, and for files that are not what they say:
    nothing of the weights is read before all of this is known.
    """
    path = folder / WEIGHTS
    _check_files(folder)
    config = read_adapter_config(folder / CONFIG)
    adapter = {}
    for (layer, name), (module, sides) in _pairs(path).items():
        if set(sides) != {"A", "B"} or sides["A"].shape[0] != sides["B"].shape[1]:
            raise PressError(f"{path}: layer {layer} {name}: lora_A and lora_B do not belong together.")
        rank = sides["A"].shape[0]
        if rank != rank_of(config, module):
            raise PressError(
                f"{path}: layer {layer} {name}: its matrices have rank {rank}, but by {CONFIG} (r, rank_pattern) it "
                f"is {rank_of(config, module)}, so its scale is not known. Fetch the adapter again."
            )
        if key := passed_over(config, module, layer):
            raise PressError(
                f"{path}: has layer {layer} {name}, which {CONFIG} leaves out ({key}): PEFT would compute without it. "
                "Fetch the adapter again."
            )
        a, b = (read_floats(path, sides[side]) for side in "AB")
        adapter[layer, name] = (a, b * scale_of(config, module))
    _check_finite(path, adapter)
    return adapter


def _check_files(folder: Path) -> None:
    for path in (folder / CONFIG, folder / WEIGHTS):
        if path.name == WEIGHTS and not path.exists() and (folder / PICKLE).exists():
            raise PressError(
                f"{folder / PICKLE}: pickled weights. Loading them can run any code, so only {WEIGHTS} is read: save "
                "the adapter with safe_serialization."
            )
        if not path.is_file():
            raise PressError(f"{path}: not there, or no file. Expected a PEFT adapter folder with safetensors weights.")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise PressError(f"{path}: a link out of the adapter's folder. Put the file itself there.")
        if not os.access(path, os.R_OK):
            raise PressError(f"{path}: cannot be read. Give yourself the right to (chmod +r).")
        refuse_pointer(path)


def _pairs(path: Path) -> dict[tuple[int, str], tuple[str, dict[str, Stored]]]:
    """(layer, module) -> its whole name and the places of its matrices; PressError for a tensor that is none."""
    found: dict[tuple[int, str], tuple[str, dict[str, Stored]]] = {}
    for key, module, place, stored in _matrices(path):
        layer, name, side = place
        other, sides = found.setdefault((layer, name), (module, {}))
        if other != module or side in sides:
            raise PressError(f"{path}: {key}: layer {layer} has another {name} ({other}): only one can be exported.")
        sides[side] = stored
    if not found:
        raise PressError(f"{path}: has no tensors. Expected LoRA matrices.")
    return found


def _matrices(path: Path) -> Iterator[tuple[str, str, tuple[int, str, str], Stored]]:
    """(key, module, (layer, module's last name, side), place) of each tensor."""
    for key, stored in read_header(path).items():
        match = KEY.fullmatch(key)
        if not match:
            raise PressError(f"{path}: {key}: not a LoRA matrix of a decoder layer's projection.")
        if stored.dtype not in FLOATS:
            raise PressError(f"{path}: {key} is {stored.dtype}, expected {', '.join(FLOATS)}. Save it as float32.")
        if len(stored.shape) != 2 or 0 in stored.shape:
            raise PressError(f"{path}: {key} is {list(stored.shape)}, expected a matrix of rank 1 or more.")
        yield key, match["module"], (int(match["layer"]), match["name"], match["side"]), stored


def _check_finite(path: Path, adapter: "Adapter") -> None:
    import numpy as np

    for (layer, name), pair in adapter.items():
        if not all(np.isfinite(matrix).all() for matrix in pair):
            raise PressError(
                f"{path}: layer {layer} {name}: has a value that is NaN or infinite, or becomes so when it is scaled. "
                "Train the adapter again, at a lower rate."
            )
