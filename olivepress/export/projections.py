"""The projections of an exported graph that have LoRA inputs, and what they are called in graphs and checkpoints."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    import onnx_ir as ir

# Which projections get inputs, by block. Each costs time, also with no adapter (docs/log/2026-11-25-decoding.md).
BLOCKS = {"all": ("attn", "mlp"), "attention": ("attn",)}
# Projections that some checkpoints or graphs pack into one matrix, in the order in which they are packed.
MODEL_PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
# Models whose checkpoints do, as genai_config.json calls them: an adapter there is one for all parts.
PACKED_MODELS = ("phi3",)
INPUT = re.compile(r"model\.layers\.(?P<layer>\d+)\.(?P<name>\w+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class Projection:
    """A projection with LoRA inputs: layer number, the graph's name for it, inputs K, outputs N, numpy dtype.

    ``columns``: its A is [K, rank] and not [rank, K]. ``blocks``: it is packed, and its B has no zeros: A is
    [blocks·rank, K], and B [rank, N] (passes/block_adapters.py).
    """

    layer: int
    name: str
    inputs: int
    outputs: int
    dtype: str
    columns: bool = False
    blocks: bool = False

    @property
    def lora_a(self) -> str:
        """The name of the graph input A [rank, K], or with ``columns`` [K, rank]."""
        return f"model.layers.{self.layer}.{self.name}.lora_A.weight"

    @property
    def lora_b(self) -> str:
        """The name of the graph input B [rank, N]."""
        return f"model.layers.{self.layer}.{self.name}.lora_B.weight"


def projections(model: "ir.Model") -> dict[tuple[int, str], Projection]:
    """(layer, name) -> Projection, by the graph's inputs; in the graph's order, empty if it has no LoRA inputs."""
    sides: dict[tuple[int, str], dict[str, int]] = {}
    dtypes: dict[tuple[int, str], str] = {}
    columns: dict[tuple[int, str], bool] = {}
    ranks: dict[tuple[int, str], set[str]] = {}
    for value in model.graph.inputs:
        match = INPUT.fullmatch(value.name)
        if match:
            key = (int(match["layer"]), match["name"])
            turned = isinstance(value.shape[0], int)  # the rank, which has no number, comes second
            sides.setdefault(key, {})[match["side"]] = value.shape[0 if turned else 1]
            columns[key] = columns.get(key, False) or turned
            ranks.setdefault(key, set()).add(value.shape[1 if turned else 0].value)
            dtypes[key] = value.dtype.numpy().name
    return {
        key: Projection(*key, size["A"], size["B"], dtypes[key], columns[key], blocks=len(ranks[key]) > 1)
        for key, size in sides.items()
    }


def read_projections(path: Path) -> dict[tuple[int, str], Projection]:
    """The projections of an ONNX file. Raises PressError if it has no LoRA inputs."""
    from olivepress.export.graph import load

    found = projections(load(path))
    if not found:
        raise PressError(f"{path}: the graph has no LoRA inputs. Export it with stages/auto_opt.py.")
    return found


def part_widths(name: str, outputs: int, qkv: tuple[int, int, int]) -> tuple[int, ...]:
    """The outputs of each part of the projection ``name``, in order; its own if it is not packed.

    ``qkv``: the outputs of q, k and v.
    """
    if name == "qkv_proj":
        return qkv
    parts = len(MODEL_PARTS.get(name, (name,)))
    return (outputs // parts,) * parts


def read_model_type(model_folder: Path) -> str:
    """What genai_config.json calls the model, such as llama."""
    return _read_model(model_folder)["type"]


def qkv_sizes(model_folder: Path) -> tuple[int, int, int]:
    """Outputs of q, k and v, from genai_config.json."""
    decoder = _read_model(model_folder)["decoder"]
    size = decoder["head_size"]
    key_value = decoder["num_key_value_heads"] * size
    return decoder["num_attention_heads"] * size, key_value, key_value


def _read_model(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
