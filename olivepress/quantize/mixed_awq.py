"""AWQ with a format for each layer, in Olive's layout, whose configuration has overrides for single modules.

AutoAWQ's own layout has 4 bits and one group size for all layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from olive.common.quant.hf_utils import OliveHfQuantizationConfig
from olive.common.quant.nn import QuantLinear

from olivepress.core.outputs import read_json, write_json
from olivepress.quantize.fast_awq import get_op_name
from olivepress.quantize.mixed_precision import Format, overrides
from olivepress.quantize.quick_awq import QuickQuantizer

if TYPE_CHECKING:
    from torch import nn


class MixedQuantizer(QuickQuantizer):
    """QuickQuantizer where ``formats`` has a format for some layers; the others have AutoAWQ's settings.

    A layer of 8 bits is neither scaled nor clipped: its rounding costs next to nothing.
    """

    def __init__(self, *args: Any, formats: dict[str, Format], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._least = Format(self.w_bit, self.group_size)
        self._formats = formats

    @contextmanager
    def _format_of(self, linear: str) -> Iterator[Format]:
        """Within the block AutoAWQ's settings are those of the linear of this name."""
        found = self._formats.get(linear, self._least)
        self.w_bit, self.group_size = found.bits, found.group_size
        yield found
        self.w_bit, self.group_size = self._least.bits, self._least.group_size

    @torch.no_grad()
    def _search_best_scale(
        self, module: "nn.Module", prev_op: "nn.Module", layers: "list[nn.Linear]", inp: torch.Tensor, **others: Any
    ) -> tuple[str, tuple[str, ...], torch.Tensor]:
        with self._format_of(get_op_name(self.model, layers[0])) as found:
            if found.bits == self._least.bits:
                return super()._search_best_scale(module, prev_op, layers, inp, **others)
        names = tuple(get_op_name(module, layer) for layer in layers)
        return get_op_name(module, prev_op), names, torch.ones(inp.shape[-1], dtype=inp.dtype)

    @torch.no_grad()
    def _search_best_clip(
        self, layer: "nn.Module", named_linears: "dict[str, nn.Linear]", input_feat: dict[str, torch.Tensor]
    ) -> list[tuple[str, torch.Tensor]]:
        clips = []
        for name, linear in named_linears.items():
            with self._format_of(get_op_name(self.model, linear)) as found:
                if found.bits == self._least.bits:
                    clips += super()._search_best_clip(layer, {name: linear}, input_feat)
        return clips

    def _packed(self, name: str, full_name: str, linear: "nn.Linear") -> QuantLinear:
        with self._format_of(full_name) as found:
            integers, scales, zeros = self._integers(name, full_name, linear)
        packed = QuantLinear.from_tensors(
            integers.int(),
            bits=found.bits,
            group_size=found.group_size,
            symmetric=not self.zero_point,
            scales=scales,
            zero_points=zeros.int(),
            quantized=True,
            in_features=linear.in_features,
            out_features=linear.out_features,
            bias=linear.bias is not None,
        )
        if linear.bias is not None:
            packed.bias = linear.bias.detach().clone().half()
        return packed


def say_formats(config: Path, group_size: int, *, zero_point: bool, formats: dict[str, Format]) -> None:
    """Write into a checkpoint's config.json how its layers are stored, in the place of what AutoAWQ wrote."""
    settings = OliveHfQuantizationConfig(
        bits=4, symmetric=not zero_point, group_size=group_size, overrides=overrides(formats)
    )
    write_json(config, {**read_json(config), "quantization_config": settings.to_dict()})
