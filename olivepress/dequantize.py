"""A quantized checkpoint as an ordinary PyTorch model, its weights exactly on the quantization grid.

transformers 5 loads AWQ only through another package, AutoAWQ's backward needs Triton, and PEFT refuses Olive's
layers. Plain ``nn.Linear`` weights need none of them, train on any device, and are the numbers that will ship.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress import checkpoint
from olivepress.autoawq import import_autoawq
from olivepress.errors import PressError
from olivepress.pretrained import load_config

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def linear_weights(folder: Path) -> "Iterator[tuple[str, torch.Tensor]]":
    """Yield (name, tensor) of every weight in ``folder``, quantized layers dequantized to float32 [out, in].

    AWQ: (q - z) * s with AutoAWQ's own unpacking. Olive: the same with Olive's. Other tensors pass through.
    """
    from safetensors import safe_open

    settings = checkpoint.read_config(folder).get("quantization_config") or {}
    for shard in checkpoint.shards(folder):
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                module, _, kind = name.rpartition(".")
                if kind == "qweight":
                    parts = {k: file.get_tensor(f"{module}.{k}") for k in ("qweight", "scales")}
                    zeros = f"{module}.qzeros"
                    parts["qzeros"] = file.get_tensor(zeros) if zeros in file.keys() else None  # noqa: SIM118
                    yield f"{module}.weight", _dequantize(folder, settings, parts)
                elif kind not in ("scales", "qzeros"):
                    yield name, file.get_tensor(name)


def _dequantize(folder: Path, settings: dict[str, Any], parts: dict[str, Any]) -> "torch.Tensor":
    method, bits = settings.get("quant_method"), settings.get("bits")
    scales = parts["scales"].float()
    if method == "awq":
        import_autoawq()
        from awq.utils.packing_utils import dequantize_gemm

        weight = dequantize_gemm(parts["qweight"], parts["qzeros"], scales, bits, settings["group_size"])
        return weight.T.contiguous()
    if method == "olive":
        from olive.common.quant.utils import WeightQuantizer, unpack_from_uint8

        quantizer = WeightQuantizer(bits, settings["symmetric"], settings["group_size"], signed=False)
        rows, packed = parts["qweight"].shape
        weight = unpack_from_uint8(parts["qweight"], bits, (rows, packed * 8 // bits))
        if parts["qzeros"] is None:
            zeros = scales.new_full(scales.shape, quantizer.midq)
        else:
            zeros = unpack_from_uint8(parts["qzeros"], bits, tuple(scales.shape))
        return quantizer.dequantize(weight, scales, zeros)
    raise PressError(
        f"{folder / 'config.json'}: quantization_config.quant_method is {method!r}; expected awq or olive."
    )


def load_model(
    folder: Path, *, dtype: "torch.dtype", device: str = "cpu", trust_remote_code: bool = False
) -> "PreTrainedModel":
    """The causal language model in ``folder``, quantized or not, as plain weights of ``dtype`` in eval mode."""
    import transformers

    config = load_config(folder, trust_remote_code=trust_remote_code)
    quantized = getattr(config, "quantization_config", None) is not None
    if not quantized:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    else:
        del config.quantization_config
        model_class = getattr(transformers, config.architectures[0], None)
        if model_class is None:
            raise PressError(f"{folder / 'config.json'}: transformers has no {config.architectures[0]}.")
        weights = {name: tensor.to(dtype) for name, tensor in linear_weights(folder)}
        model = model_class.from_pretrained(None, config=config, state_dict=weights, dtype=dtype)
    model.config.use_cache = False
    model.name_or_path = folder.as_posix()
    return model.to(device).eval()
