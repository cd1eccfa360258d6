"""Quantized checkpoint to an ONNX Runtime GenAI model folder, by Olive's ModelBuilder pass."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivepress import checkpoint
from olivepress.errors import PressError
from olivepress.export_speed import fast_builder
from olivepress.olive_pass import run_pass
from olivepress.pretrained import load_config

# How the output head, which the quantizers leave alone, is stored: the builder's own names for it.
HEADS: dict[str, dict[str, Any]] = {
    "int4": {"int4_algo_config": "default"},
    "int8": {"int4_algo_config": "k_quant_last"},
    "float": {"int4_nodes_to_exclude": ["/lm_head/MatMul"]},
}
# MatMulNBits' accuracy_level: what the activations are computed in.
ACTIVATIONS = {"float32": 1, "float16": 2, "bfloat16": 3, "int8": 4}
MODEL = "model.onnx"


@dataclass(frozen=True)
class Target:
    """A machine to export for. ``precision`` is that of the weights; a CUDA graph computes in float16."""

    provider: str
    precision: str
    lm_head: str
    activations: str


def export(
    quantized: Path, out: Path, target: Target, *, trust_remote_code: bool = False, upstream: bool = False
) -> None:
    """Write model.onnx, its data, genai_config.json and the tokenizer to ``out``.

    The int4 weights, scales and zero points are the checkpoint's own, repacked. Raises PressError for an
    architecture that the builder does not know. ``upstream`` leaves the builder's repacking as it is, to compare with.
    """
    load_config(quantized, trust_remote_code=trust_remote_code)
    check_architecture(quantized)
    from olive.passes.onnx.model_builder import ModelBuilder

    config = {
        "precision": target.precision,
        "int4_accuracy_level": ACTIVATIONS[target.activations],
        **HEADS[target.lm_head],
    }
    try:
        with nullcontext() if upstream else fast_builder():
            run_pass(
                ModelBuilder, config, quantized, out, provider=target.provider, trust_remote_code=trust_remote_code
            )
    except NotImplementedError as error:
        raise PressError(f"{quantized / 'config.json'}: the ONNX Runtime GenAI builder refused it: {error}") from error


def check_architecture(folder: Path) -> None:
    """PressError for what the builder would stumble over only half-way."""
    config = checkpoint.read_config(folder)
    path = folder / "config.json"
    if config["model_type"] == "phi3":
        longest, original = config["max_position_embeddings"], config["original_max_position_embeddings"]
        scaled = (config.get("rope_parameters") or config.get("rope_scaling") or {}).get("long_factor")
        if longest != original and not scaled:
            raise PressError(
                f"{path}: max_position_embeddings is {longest} and original_max_position_embeddings {original}, but "
                "there are no long-RoPE factors. Set the two to the same number."
            )
