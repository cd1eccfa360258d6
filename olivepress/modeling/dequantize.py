"""A quantized checkpoint as an ordinary PyTorch model, its weights exactly on the quantization grid.

transformers 5 loads AWQ only through another package, AutoAWQ's backward needs Triton, and PEFT refuses Olive's
layers. Plain ``nn.Linear`` weights need none of them, train on any device, and are the numbers that will ship.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.checkpoint import tensors
from olivepress.core.errors import PressError
from olivepress.core.lacks import need_memory
from olivepress.core.pretrained import load_config
from olivepress.modeling.autoawq import packing

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def linear_weights(
    folder: Path, settings: dict[str, Any], wanted: Callable[[str], bool] = lambda name: True, device: str = "cpu"
) -> "Iterator[tuple[str, torch.Tensor]]":
    """Yield (name, tensor on ``device``) of every weight in ``folder``, quantized layers dequantized to float32
    [out, in].

    ``settings`` is the configuration's quantization_config. AWQ: (q - z) * s with AutoAWQ's own unpacking. Olive: the
    same with Olive's; each is one rounding, so any device gives the same bits. Other tensors pass through. ``wanted``
    says of a tensor's name whether it is read.
    """
    from safetensors import safe_open

    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, "pt", device=device) as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                module, _, kind = name.rpartition(".")
                if not wanted(name):
                    continue
                if kind == "qweight":
                    parts = {k: file.get_tensor(f"{module}.{k}") for k in ("qweight", "scales")}
                    zeros = f"{module}.qzeros"
                    parts["qzeros"] = file.get_tensor(zeros) if zeros in file.keys() else None  # noqa: SIM118
                    yield f"{module}.weight", _dequantize(folder, settings_of(settings, module), parts)
                elif kind not in ("scales", "qzeros"):
                    yield name, file.get_tensor(name)


def settings_of(settings: dict[str, Any], module: str) -> dict[str, Any]:
    """A checkpoint's quantization_config as it holds for ``module``: Olive's has overrides for single ones."""
    return {**settings, **(settings.get("overrides") or {}).get(module, {})}


def _dequantize(folder: Path, settings: dict[str, Any], parts: dict[str, Any]) -> "torch.Tensor":
    method, bits = settings.get("quant_method"), settings.get("bits")
    scales = parts["scales"].float()
    if method == "awq":
        weight = packing().dequantize_gemm(parts["qweight"], parts["qzeros"], scales, bits, settings["group_size"])
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


def _count(folder: Path, settings: dict[str, Any] | None) -> int:
    """Weights of a checkpoint; a quantized layer's are counted unpacked, its scales and zeros not at all."""
    packed = {"I32": 32, "U8": 8}  # AutoAWQ's, Olive's
    count = 0
    for name, info in tensors(folder).items():
        module, _, kind = name.rpartition(".")
        if kind == "qweight" and settings:
            bits = settings_of(settings, module)["bits"]
            count += info.count * packed.get(info.dtype, bits) // bits
        elif kind not in ("scales", "qzeros"):
            count += info.count
    return count


def load_model(
    folder: Path, *, dtype: "torch.dtype", device: str = "cpu", trust_remote_code: bool = False
) -> "PreTrainedModel":
    """The causal language model in ``folder``, quantized or not, as plain weights of ``dtype`` in eval mode."""
    import transformers

    config = load_config(folder, trust_remote_code=trust_remote_code)
    settings = getattr(config, "quantization_config", None)
    need_memory(_count(folder, settings) * dtype.itemsize, f"{folder} in {str(dtype).removeprefix('torch.')}")
    if settings is None:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    else:
        del config.quantization_config
        model_class = getattr(transformers, config.architectures[0], None)
        if model_class is None:
            raise PressError(f"{folder / 'config.json'}: transformers has no {config.architectures[0]}.")
        # on the device: 3.8 billion weights take its processor half a minute
        weights = {name: tensor.to(dtype).cpu() for name, tensor in linear_weights(folder, settings, device=device)}
        model = model_class.from_pretrained(None, config=config, state_dict=weights, dtype=dtype)
    model.config.use_cache = False
    model.name_or_path = folder.as_posix()
    return model.to(device).eval()
