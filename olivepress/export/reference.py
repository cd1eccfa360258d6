"""What PyTorch computes of a quantized checkpoint, for the exported graph to be held to: layer after layer.

One decoder layer has its weights in memory at a time (dequantized, float32), so the largest model takes a few of its
layers and its embeddings. One sequence is computed twice side by side, without an adapter and with a random one.
"""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError
from olivepress.core.pretrained import load_config
from olivepress.core.report import progress
from olivepress.modeling.dequantize import linear_weights

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

RANK = 4
SHARE = 0.1  # of a projection's output, that the random adapter adds to it
SEED = 0
PLAIN, ADAPTED = 0, 1  # rows


@dataclass(frozen=True)
class Reference:
    """Of each of the two rows: ``cache``, per layer the keys and values [heads, places, size] that are kept for later
    tokens (a sliding layer's last ones only; None for a layer without), ``head_input`` [places, width], ``logits``
    [asked places, vocabulary]. Of both, ``embedded`` [places, width]: the tokens' rows of the embedding.

    ``adapter``: the PEFT folder of the random adapter, None if there is nothing that it could change.
    """

    cache: "list[list[tuple[np.ndarray, np.ndarray] | None]]"
    head_input: "list[np.ndarray]"
    logits: "list[np.ndarray]"
    embedded: "np.ndarray"
    adapter: Path | None


def compute(
    checkpoint: Path,
    ids: list[int],
    places: list[int],
    scratch: Path,
    *,
    window: int | None,
    targets: set[str],
    device: str,
    trust_remote_code: bool,
) -> Reference:
    """The reference for ``ids``, with the logits at ``places``.

    ``window``: in the place of the configuration's sliding window; None leaves it. ``targets``: names of the linear
    modules that get the adapter, which is written into the new folder ``scratch``.
    """
    import torch

    config = load_config(checkpoint, trust_remote_code=trust_remote_code)
    settings = getattr(config, "quantization_config", None) or {}
    if settings:
        del config.quantization_config
    if window:
        config.sliding_window = window
    model = _empty_model(config, trust_remote_code=trust_remote_code)
    adapter = _RandomAdapter(targets)
    found: dict[str, torch.Tensor] = {}
    model.base_model.register_forward_hook(
        lambda module, args, output: found.update(head_input=output.last_hidden_state)
    )
    keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
    wanted = torch.tensor(places, device=device)
    with torch.inference_mode():
        _stream(model, checkpoint, settings, adapter, device)
        rows = torch.tensor([ids, ids], device=device)
        out = model(rows, use_cache=True, **({"logits_to_keep": wanted} if keeps else {}))
        logits = out.logits if keeps else out.logits[:, wanted]
        embedded = model.get_input_embeddings().weight[rows[0]]
    layers = out.past_key_values.layers
    return Reference(
        [[_kept(layer, row) for layer in layers] for row in (PLAIN, ADAPTED)],
        [_numpy(found["head_input"][row]) for row in (PLAIN, ADAPTED)],
        [_numpy(logits[row]) for row in (PLAIN, ADAPTED)],
        _numpy(embedded),
        adapter.save(scratch),
    )


def _kept(layer: Any, row: int) -> "tuple[np.ndarray, np.ndarray] | None":
    """Keys and values of a layer of transformers' cache."""
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    return None if keys is None else (_numpy(keys[row]), _numpy(values[row]))


def _numpy(tensor: "torch.Tensor") -> "np.ndarray":
    return tensor.float().cpu().numpy()


def _empty_model(config: "PretrainedConfig", *, trust_remote_code: bool) -> "PreTrainedModel":
    """The model without weights; buffers, which no checkpoint holds, are computed."""
    import torch
    import transformers
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        # eager: softcapping and the like are computed as they are written down
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="eager", trust_remote_code=trust_remote_code
        )
    return model.eval()


def decoder_layers(model: "PreTrainedModel") -> tuple[str, "nn.ModuleList"]:
    """The name and the list of the decoder's layers."""
    from torch import nn

    count = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise PressError(f"{type(model).__name__}: has no list of {count} decoder layers.")


def _stream(
    model: "PreTrainedModel", checkpoint: Path, settings: dict[str, Any], adapter: "_RandomAdapter", device: str
) -> None:
    """Load what lies outside the layers, and have each layer load its own weights for as long as it computes."""
    import torch

    name, layers = decoder_layers(model)
    _load(model, linear_weights(checkpoint, settings, lambda key: not key.startswith(f"{name}."), device), "", device)
    model.tie_weights()
    bar = iter(progress(range(len(layers)), "comparing with PyTorch: layers"))
    for number, layer in enumerate(layers):

        def load(module: torch.nn.Module, args: Any, prefix: str = f"{name}.{number}.", number: int = number) -> None:
            weights = linear_weights(checkpoint, settings, lambda key: key.startswith(prefix), device)
            _load(module, weights, prefix, device)
            adapter.attach(number, prefix, module)
            next(bar, None)

        layer.register_forward_pre_hook(load)
        layer.register_forward_hook(_unload)
    missing = [key for key, value in model.named_parameters() if value.is_meta and not key.startswith(f"{name}.")]
    if missing:
        raise PressError(f"{checkpoint}: has no weight {missing[0]}.")
    for buffer_owner in model.modules():
        for key, buffer in buffer_owner._buffers.items():
            if buffer is not None:
                buffer_owner._buffers[key] = buffer.to(device)
    next(bar, None)


def _load(module: "nn.Module", weights: Any, prefix: str, device: str) -> None:
    import torch

    state = {key.removeprefix(prefix): value.to(device, torch.float32) for key, value in weights}
    module.load_state_dict(state, strict=False, assign=True)
    if prefix:
        missing = [key for key, value in module.named_parameters() if value.is_meta]
        if missing:
            raise PressError(f"{prefix}{missing[0]}: the checkpoint has no such weight.")


def _unload(module: "nn.Module", args: Any, output: Any) -> None:
    import torch

    for part in module.modules():
        for key, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[key] = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)


class _RandomAdapter:
    """LoRA with random A and B on linear modules, applied to the row ADAPTED."""

    def __init__(self, targets: set[str]) -> None:
        import torch

        self._targets = targets
        self._random = torch.Generator().manual_seed(SEED)
        self._weights: dict[str, torch.Tensor] = {}

    def attach(self, number: int, prefix: str, layer: "nn.Module") -> None:
        """Give the linear modules of a layer their A and B, large enough to show."""
        import torch
        from torch import nn

        for name, module in layer.named_modules():
            if not isinstance(module, nn.Linear) or name.rpartition(".")[2] not in self._targets:
                continue
            outputs, inputs = module.weight.shape
            a = torch.randn((RANK, inputs), generator=self._random) / inputs**0.5
            scale = SHARE * float(module.weight.square().mean().sqrt()) * (inputs / RANK) ** 0.5
            b = torch.randn((outputs, RANK), generator=self._random) * scale
            a, b = a.half().float(), b.half().float()  # as native operators read them
            self._weights[f"base_model.model.{prefix}{name}.lora_A.weight"] = a
            self._weights[f"base_model.model.{prefix}{name}.lora_B.weight"] = b
            module.register_forward_hook(_adapted(a.to(module.weight.device), b.to(module.weight.device)))

    def save(self, folder: Path) -> Path | None:
        """Write it as PEFT does; None if there is no module that it could change."""
        from safetensors.torch import save_file

        if not self._weights:
            return None
        folder.mkdir()
        save_file(self._weights, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": sorted(self._targets)}
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder


def _adapted(a: "torch.Tensor", b: "torch.Tensor") -> Callable[..., None]:
    def hook(module: "nn.Module", args: Any, output: "torch.Tensor") -> None:
        output[ADAPTED] += (args[0][ADAPTED] @ a.T) @ b.T

    return hook
