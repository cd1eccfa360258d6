"""What goes through a decoder layer: the inputs of its linears, and the outputs of its blocks."""

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


class LayerRecorder:
    """While it is entered, a forward pass of ``layer`` fills ``inputs`` (by linear's name, one tensor a call) and
    ``outputs`` (by module: those blocks that end in a linear, attention and MLP, and that linear)."""

    def __init__(self, layer: "nn.Module", linears: "dict[str, nn.Linear]") -> None:
        self.inputs: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.outputs: dict[nn.Module, torch.Tensor] = {}
        self._layer, self._linears = layer, linears
        self._last: tuple[nn.Module, torch.Tensor] | None = None  # the linear that ran last, and what it gave

    def __enter__(self) -> "LayerRecorder":
        self._hooks = [
            linear.register_forward_hook(partial(self._on_linear, name)) for name, linear in self._linears.items()
        ]
        self._hooks += [block.register_forward_hook(self._on_block) for block in self._layer.children()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _on_linear(self, name: str, module: "nn.Module", args: tuple, output: "torch.Tensor") -> None:
        self.inputs[name].append(args[0].detach())
        self._last = module, output

    def _on_block(self, module: "nn.Module", args: tuple, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        if self._last and self._last[1] is output:
            self.outputs[module] = self.outputs[self._last[0]] = output
        self._last = None
