"""Quantized checkpoint to an ONNX Runtime GenAI model folder, by Olive's ModelBuilder pass."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivepress.core import checkpoint
from olivepress.core.architectures import check_architecture
from olivepress.core.errors import PressError
from olivepress.core.pretrained import load_config
from olivepress.core.providers import WEBGPU
from olivepress.export.fast_builder import fast_builder
from olivepress.export.mended_builder import mended_builder
from olivepress.modeling.olive_pass import run_pass

# How the output head, which the quantizers leave alone, is stored: the builder's own names for it.
HEADS: dict[str, dict[str, Any]] = {
    "int4": {"int4_algo_config": "default"},
    "int8": {"int4_algo_config": "k_quant_last"},
    "mixed": {"int4_algo_config": "k_quant_last"},  # mixed_head.py makes it so
    "float": {"int4_nodes_to_exclude": ["/lm_head/MatMul"]},
}
# Bits of a quantized head or embedding, and weights with one scale: in 8 bits they lose as little in groups of 64.
BITS = {"int4": 4, "int8": 8}
TABLE_GROUPS = {4: (32,), 8: (64, 32)}
# MatMulNBits' accuracy_level: what the activations are computed in.
ACTIVATIONS = {"float32": 1, "float16": 2, "bfloat16": 3, "int8": 4}


@dataclass(frozen=True)
class Target:
    """A machine to export for. ``precision`` is that of the weights; a CUDA graph computes in float16, WebGPU's in what
    ``activations`` says."""

    provider: str
    precision: str
    lm_head: str
    activations: str


def table_group(bits: int, width: int) -> int:
    """The largest of TABLE_GROUPS that divides the width, else the smallest."""
    return next((size for size in TABLE_GROUPS[bits] if width % size == 0), TABLE_GROUPS[bits][-1])


def export(
    quantized: Path, out: Path, target: Target, *, trust_remote_code: bool = False, upstream: bool = False
) -> None:
    """Write model.onnx, its data, genai_config.json and the tokenizer to ``out``.

    The int4 weights, scales and zero points are the checkpoint's own, repacked. Raises PressError for an
    architecture that the builder does not know. ``upstream`` leaves the builder's repacking as it is, to compare with.
    """
    original = load_config(quantized, trust_remote_code=trust_remote_code)
    check_architecture(quantized, checkpoint.read_config(quantized))
    from olive.passes.onnx.model_builder import ModelBuilder

    config = {
        "int4_block_size": table_group(BITS.get(target.lm_head, 8), original.hidden_size),
        "precision": target.precision,
        "int4_accuracy_level": ACTIVATIONS[target.activations],
        **HEADS[target.lm_head],
        # the builder's own defaults are to trust a model's code, and to send the hub's token along
        "extra_options": {
            "hf_remote": trust_remote_code,
            "hf_token": "false",
            **({"use_webgpu_fp32": "true"} if target.provider == WEBGPU and target.activations == "float32" else {}),
        },
    }
    try:
        with mended_builder(), nullcontext() if upstream else fast_builder():
            run_pass(
                ModelBuilder, config, quantized, out, provider=target.provider, trust_remote_code=trust_remote_code
            )
    except NotImplementedError as error:
        raise PressError(f"{quantized / 'config.json'}: the ONNX Runtime GenAI builder refused it: {error}") from error
