"""Activation-aware weight quantization (AWQ, Lin et al. 2023, arXiv:2306.00978) by AutoAWQ.

Our own are the quantizers (fast_awq.py gives the same bytes sooner, quick_awq.py others that are as good, for a CPU,
mixed_awq.py a format for each layer), and the explicit zero points that AutoAWQ's GEMM layout stores, for symmetric
quantization.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core import checkpoint
from olivepress.core.errors import PressError
from olivepress.core.tokenizer import load_tokenizer
from olivepress.modeling.autoawq import import_autoawq
from olivepress.quantize.group_size import check_group_size, linear_layers
from olivepress.quantize.settings import note_settings

if TYPE_CHECKING:
    from olivepress.quantize.mixed_precision import Format


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
    exact: bool = True,
    formats: "dict[str, Format] | None" = None,
    upstream: bool = False,
) -> None:
    """Write an int4 AWQ checkpoint (GEMM layout) of ``base`` to the folder ``out``.

    ``blocks`` holds the calibration tokens, equal lengths. Weights are [in, out/8] int32, scales [in/group, out]
    float16, zero points [in/group, out/8] int32; norms, embeddings and the head stay float16.
    ``device`` is "cpu" or "cuda". Without ``zero_point`` the grid is symmetric and every zero point is 8.
    ``exact`` gives AutoAWQ's bytes; else the searches run in float32 and with less to compute: config.json's
    quantization_config says which. ``formats`` (layer -> format, of those that have another than 4 bits in groups of
    ``group_size``) makes it a checkpoint in Olive's layout, and never exact. ``upstream`` takes AutoAWQ's own
    quantizer, to compare with.
    """
    architecture = checkpoint.read_config(base)["model_type"]
    layers = linear_layers(base)
    check_group_size(layers, group_size)
    check_outputs(layers)
    awq = import_autoawq()
    import torch
    from awq.models.auto import AWQ_CAUSAL_LM_MODEL_MAP
    from awq.quantize.quantizer import AwqQuantizer

    from olivepress.quantize.fast_awq import FastQuantizer, SymmetricUpstream
    from olivepress.quantize.quick_awq import QuickQuantizer

    if architecture not in AWQ_CAUSAL_LM_MODEL_MAP:
        raise PressError(
            f"{base / 'config.json'}: AutoAWQ has no recipe for model_type {architecture!r}. "
            "Use quantize.algorithm rtn, gptq or kquant."
        )

    quantizer: Callable[..., AwqQuantizer] = FastQuantizer if exact else QuickQuantizer
    if formats:
        from olivepress.quantize.mixed_awq import MixedQuantizer, say_formats

        quantizer = partial(MixedQuantizer, formats=formats)
    elif upstream:
        quantizer = AwqQuantizer if zero_point else SymmetricUpstream

    tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
    model = awq.AutoAWQForCausalLM.from_pretrained(
        str(base),
        torch_dtype="auto" if exact else torch.float32,
        trust_remote_code=trust_remote_code,
        safetensors=True,
        device_map="cpu",
        use_cache=False,
    )
    generation_config = model.model.generation_config.to_dict()
    model.quantize(
        tokenizer,
        quant_config={"zero_point": zero_point, "q_group_size": group_size, "w_bit": 4, "version": "GEMM"},
        calib_data=blocks,
        max_calib_samples=len(blocks),
        max_calib_seq_len=len(blocks[0]),
        quantizer_cls=quantizer,
    )
    model.quant_config.zero_point = True  # the file holds them either way, and readers must use them
    if not exact:
        model.model.half()
        model.model.config.dtype = torch.float16
    model.save_quantized(str(out))
    if formats:
        say_formats(out / "config.json", group_size, zero_point=zero_point, formats=formats)
    else:
        note_settings(out / "config.json", exact=exact or upstream)
    # AutoAWQ turns sampling on in the generation config; the base's own settings are the right ones.
    type(model.model.generation_config).from_dict(generation_config).save_pretrained(out)
    tokenizer.save_pretrained(out)
