"""Mixed precision: more bits, or smaller groups, for the layers whose rounding costs most, up to an average.

What a layer's rounding costs is measured, in nats a token, on calibration text. To the second order the KL divergence
from the float model is half the variance of the score along the error: with g the gradient of the log-likelihood of
tokens drawn from the model itself, at a layer's output, and e what rounding adds to that output, it is ½ (g·e)², summed
over tokens (the Fisher information, as in HAWQ, arXiv:1905.03696, and SqueezeLLM, arXiv:2306.07629, but taken at the
output, where it costs a product a format). One forward and one backward pass give it for all layers at once. On a
random model it is within 15% of the divergence measured layer by layer, but for attention, where errors of many tokens
are added up: up to twice as much. Olive's SelectiveMixedPrecision takes the first order alone, and two formats.

The bits are then spent one step at a time on the layer that gains most for a bit. Layers that read the same input (q, k
and v; gate and up) have one format, since the export makes one product of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError
from olivepress.core.report import note, progress
from olivepress.quantize.grid import to_grid
from olivepress.quantize.group_size import check_group_size, linear_layers

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

TOKENS = 2048  # that layers are measured on, at most
SMALLEST_GROUP = 32  # below it scales take more than they save
SEED = 0


@dataclass(frozen=True, order=True)
class Format:
    """How a layer is stored: bits of a weight, and how many weights share a scale of 16 bits."""

    bits: int
    group_size: int

    def bits_per_weight(self, *, zero_point: bool) -> float:
        """With its share of the scale, and of the zero point."""
        return self.bits + (16 + self.bits * zero_point) / self.group_size


@dataclass(frozen=True)
class Unit:
    """Layers that have one format: their names, how many weights, and what each format costs, in nats a token."""

    layers: tuple[str, ...]
    weights: int
    costs: dict[Format, float]


def formats(group_size: int) -> list[Format]:
    """What a layer can get: 4 bits in groups of ``group_size`` first, then in smaller ones, then 8 bits."""
    sizes = [group_size]
    while sizes[-1] // 2 >= SMALLEST_GROUP:
        sizes.append(sizes[-1] // 2)
    return [*(Format(4, size) for size in sizes), Format(8, group_size)]


def choose_formats(
    base: Path,
    blocks: list[list[int]],
    *,
    average_bits: float,
    group_size: int,
    zero_point: bool,
    device: str,
    trust_remote_code: bool,
) -> dict[str, Format]:
    """Layer -> format of those layers of ``base`` that get more than 4 bits in groups of ``group_size``.

    ``average_bits``: bits a weight of all layers together, scales and zero points counted. ``blocks`` holds calibration
    tokens, ``device`` is "cpu" or "cuda". PressError if the average is below what the least format takes.
    """
    import torch

    from olivepress.modeling.dequantize import load_model

    choices = formats(group_size)
    check_group_size(linear_layers(base), group_size)
    least = choices[0].bits_per_weight(zero_point=zero_point)
    if average_bits < least:
        raise PressError(
            f"quantize.average_bits: found {average_bits}, expected at least {least:.4g}, which 4 bits in groups of "
            f"{group_size} take with their scales. Raise it, or take larger groups."
        )
    model = load_model(base, dtype=torch.float32, device=device, trust_remote_code=trust_remote_code)
    chosen = spend(measure(model, blocks, choices, zero_point=zero_point), average_bits, zero_point=zero_point)
    found = {name: kind for unit, kind in chosen for name in unit.layers if kind != choices[0]}
    weights = sum(unit.weights for unit, _ in chosen)
    for kind in choices:
        share = sum(unit.weights for unit, has in chosen if has == kind) / weights
        note(f"{share:.0%} of the layers' weights get {kind.bits} bits in groups of {kind.group_size}.")
    return found


def measure(
    model: "PreTrainedModel", blocks: list[list[int]], choices: list[Format], *, zero_point: bool
) -> list[Unit]:
    """What each of the ``choices`` costs each unit of the decoder's linear layers, on at most TOKENS tokens."""
    import torch

    model.requires_grad_(False)
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers." in name
    }
    random = torch.Generator().manual_seed(SEED)
    costs: dict[tuple[str, ...], dict[Format, float]] = defaultdict(lambda: dict.fromkeys(choices, 0.0))
    taken = blocks[:: -(-len(blocks) // max(1, TOKENS // len(blocks[0])))]
    for block in progress(taken, "measuring layers: calibration blocks"):
        with _recorded(linears, choices, zero_point=zero_point) as record:
            _backward_of_own_tokens(model, torch.tensor([block], device=model.device), random)
        for names, changes in record.units():
            for kind, change in changes.items():
                costs[names][kind] += float(change.square().sum()) / 2
    tokens = len(taken) * len(blocks[0])
    return [
        Unit(
            names,
            sum(linears[name].weight.numel() for name in names),
            {kind: cost / tokens for kind, cost in found.items()},
        )
        for names, found in costs.items()
    ]


def _backward_of_own_tokens(model: "PreTrainedModel", ids: "torch.Tensor", random: "torch.Generator") -> None:
    """Gradients of the summed log-likelihood of tokens that are drawn from what the model expects at each place."""
    import torch

    embedded = model.get_input_embeddings()(ids).requires_grad_()
    logits = model(inputs_embeds=embedded, use_cache=False).logits[0].float()
    with torch.no_grad():
        drawn = torch.multinomial(logits.softmax(-1).cpu(), 1, generator=random)[:, 0].to(logits.device)
    torch.nn.functional.cross_entropy(logits, drawn, reduction="sum").backward()


class _Record:
    """By layer: its input, and by format and token what its rounding changes in the log-likelihood."""

    def __init__(self) -> None:
        self.inputs: dict[str, torch.Tensor] = {}
        self.changes: dict[str, dict[Format, torch.Tensor]] = {}

    def units(self) -> Iterator[tuple[tuple[str, ...], "dict[Format, torch.Tensor]"]]:
        """(layers that read one input, the sum of their changes) of each unit; none of layers that saw no token."""
        readers: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for name, x in self.inputs.items():
            if name in self.changes:
                readers[x.data_ptr(), *x.shape].append(name)
        for names in readers.values():
            parts = [self.changes[name] for name in names]
            yield tuple(names), {kind: sum(part[kind] for part in parts) for kind in parts[0]}


@contextmanager
def _recorded(linears: "dict[str, nn.Linear]", choices: Iterable[Format], *, zero_point: bool) -> Iterator[_Record]:
    """Within the block, a forward and a backward pass through the ``linears`` fill the record."""
    record = _Record()

    def backward(name: str, x: "torch.Tensor", weight: "torch.Tensor", gradient: "torch.Tensor") -> None:
        x, gradient = x.view(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
        record.changes[name] = {
            kind: (gradient @ (_rounded(weight, kind, zero_point=zero_point) - weight) * x).sum(-1) for kind in choices
        }

    def forward(name: str, module: "nn.Linear", args: Any, output: "torch.Tensor") -> None:
        record.inputs[name] = args[0].detach()
        output.register_hook(partial(backward, name, record.inputs[name], module.weight))

    hooks = [linear.register_forward_hook(partial(forward, name)) for name, linear in linears.items()]
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


def _rounded(weight: "torch.Tensor", kind: Format, *, zero_point: bool) -> "torch.Tensor":
    return to_grid(weight, kind.group_size, zero_point=zero_point, bits=kind.bits)[0]


def spend(units: list[Unit], average_bits: float, *, zero_point: bool) -> list[tuple[Unit, Format]]:
    """Each unit with its format, so that all together take at most ``average_bits`` a weight and cost little.

    Greedy: the step that saves most for a bit, as long as one fits.
    """

    def size(kind: Format) -> float:
        return kind.bits_per_weight(zero_point=zero_point)

    chosen = {unit.layers: min(unit.costs, key=size) for unit in units}
    left = sum(unit.weights * (average_bits - size(chosen[unit.layers])) for unit in units)
    while True:
        steps = [
            ((unit.costs[chosen[unit.layers]] - cost) / added, added, unit.layers, kind)
            for unit in units
            for kind, cost in unit.costs.items()
            if 0 < (added := unit.weights * (size(kind) - size(chosen[unit.layers]))) <= left
            and cost < unit.costs[chosen[unit.layers]]
        ]
        if not steps:
            return [(unit, chosen[unit.layers]) for unit in units]
        _, added, layers, kind = max(steps)
        chosen[layers] = kind
        left -= added


def overrides(chosen: dict[str, Format]) -> dict[str, dict[str, int]]:
    """As Olive's quantizers and its checkpoints have them, by layer."""
    return {name: {"bits": kind.bits, "group_size": kind.group_size} for name, kind in chosen.items()}
