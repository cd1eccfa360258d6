"""Activation-aware weight quantization (AWQ, Lin et al. 2023, arXiv:2306.00978) by AutoAWQ.

Two things of our own: the quantizer is the faster one of awq_speed.py, which gives the same bytes, and symmetric
quantization gets the explicit zero points that AutoAWQ's GEMM layout stores.
"""

from pathlib import Path
from typing import Any

from olivepress import checkpoint
from olivepress.autoawq import import_autoawq
from olivepress.awq_speed import fast_quantizer
from olivepress.errors import PressError
from olivepress.group_size import check_group_size, linear_layers
from olivepress.pretrained import load_tokenizer


def check_outputs(layers: dict[str, tuple[int, int]]) -> None:
    """PressError unless every one of ``layers`` can be packed by 8 int4 a word and clipped as AutoAWQ does."""
    for name, (outputs, _) in layers.items():
        if outputs % 64:
            raise PressError(
                f"{name}: {outputs} outputs; AutoAWQ packs and clips in blocks of 64, so it cannot take it."
            )


def quantize_awq(
    base: Path,
    out: Path,
    *,
    blocks: list[list[int]],
    group_size: int,
    zero_point: bool,
    device: str,
    trust_remote_code: bool,
    upstream: bool = False,
) -> None:
    """Write an int4 AWQ checkpoint (GEMM layout) of ``base`` to the folder ``out``.

    ``blocks`` holds the calibration tokens, equal lengths. Weights are [in, out/8] int32, scales [in/group, out]
    float16, zero points [in/group, out/8] int32; norms, embeddings and the head stay float16.
    ``device`` is "cpu" or "cuda". Without ``zero_point`` the grid is symmetric and every zero point is 8.
    ``upstream`` takes AutoAWQ's own quantizer, to compare with.
    """
    architecture = checkpoint.read_config(base)["model_type"]
    layers = linear_layers(base)
    check_group_size(layers, group_size)
    check_outputs(layers)
    awq = import_autoawq()
    import torch
    from awq.models.auto import AWQ_CAUSAL_LM_MODEL_MAP
    from awq.quantize.quantizer import AwqQuantizer

    if architecture not in AWQ_CAUSAL_LM_MODEL_MAP:
        raise PressError(
            f"{base / 'config.json'}: AutoAWQ has no recipe for model_type {architecture!r}. "
            "Use quantize.algorithm rtn, gptq or kquant."
        )

    quantizer = AwqQuantizer if upstream else fast_quantizer()

    class SymmetricQuantizer(quantizer):
        def pseudo_quantize_tensor(self, w: "torch.Tensor") -> tuple[Any, Any, Any]:
            w, scales, _ = super().pseudo_quantize_tensor(w)
            return w, scales, torch.full_like(scales, 8)  # the middle of 0…15, which is what it means by zero

    tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
    model = awq.AutoAWQForCausalLM.from_pretrained(
        str(base), trust_remote_code=trust_remote_code, safetensors=True, device_map="cpu", use_cache=False
    )
    generation_config = model.model.generation_config.to_dict()
    model.quantize(
        tokenizer,
        quant_config={"zero_point": zero_point, "q_group_size": group_size, "w_bit": 4, "version": "GEMM"},
        calib_data=blocks,
        max_calib_samples=len(blocks),
        max_calib_seq_len=len(blocks[0]),
        quantizer_cls=quantizer if zero_point else SymmetricQuantizer,
    )
    model.quant_config.zero_point = True  # the file holds them either way, and readers must use them
    model.save_quantized(str(out))
    # AutoAWQ turns sampling on in the generation config; the base's own settings are the right ones.
    type(model.model.generation_config).from_dict(generation_config).save_pretrained(out)
    tokenizer.save_pretrained(out)
