"""Scales and norms of a quantized checkpoint, trained to predict what the float model predicts.

The second phase of EfficientQAT (Chen et al. 2024, arXiv:2407.11062), which trains the scales of integers that stay as
they are, with the float model as its teacher, as in LLM-QAT (Liu et al. 2023, arXiv:2305.17888). Quantizers look at one
layer at a time; here what a layer is off by is made up for by all that follow. No byte is added. What it wins:
docs/log/2026-11-29-distillation.md.
"""

import math
import random
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from olivepress.core import checkpoint
from olivepress.core.errors import PressError
from olivepress.core.outputs import read_json
from olivepress.core.report import progress
from olivepress.modeling.dequantize import load_model
from olivepress.quantize.settings import note_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 1024  # a step, of whole blocks, at least one
RATE = 1e-3  # of a scale and of a norm, as a share of it; 3e-3 learns the text by heart
WARM_UP = 0.05  # of the steps; after it the rate falls as a cosine does
TRANSPOSED = {"awq": True, "olive": False}  # whether a layout has scales [groups, outputs]


def distill(
    base: Path,
    folder: Path,
    *,
    blocks: list[list[int]],
    steps: int,
    seed: int,
    device: str,
    trust_remote_code: bool,
) -> dict[str, float]:
    """Train the scales and norms in the quantized checkpoint ``folder`` against ``base``, and write them there.

    ``blocks``: token ids of the calibration text, of equal length; each step takes TOKENS of them, in an order by
    ``seed``. Computes in float32. Returns the KL divergence of the predictions from those of ``base``, in nats a token,
    as the mean of the first and of the last tenth of the steps. PressError where nothing can be trained, or where it
    diverges.
    """
    load = {"dtype": torch.float32, "device": device, "trust_remote_code": trust_remote_code}
    teacher = load_model(base, **load).requires_grad_(False)
    student = load_model(folder, **load).requires_grad_(False)
    config = folder / "config.json"
    transposed = TRANSPOSED[read_json(config)["quantization_config"]["quant_method"]]
    files = {name: file for name, (file, _) in checkpoint.stored(folder).items()}
    layers = _on_grid(student, files, transposed=transposed)
    if not layers:
        raise PressError(f"{folder}: distill_steps: no quantized linear layer, so no scales to train. Set it to 0.")
    norms = _norms(student, files)
    found = _train(teacher, student, list(layers.values()), list(norms.values()), blocks, steps, seed)
    scales = {f"{name}.scales": layer.scales().detach() for name, layer in layers.items()}
    trained = {name: value.T if transposed else value for name, value in scales.items()}
    trained |= {f"{name}.weight": norm.weight.detach() for name, norm in norms.items()}
    _store(folder, trained)
    note_settings(config, distill_steps=steps)
    return found


class GridLinear(nn.Module):
    """A linear layer whose weights are integers times scales, of which a change relative to what they were is trained.

    ``weight``: [outputs, inputs], exactly on the grid of ``scales`` [outputs, groups].
    """

    def __init__(self, weight: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        groups = weight.view(*scales.shape, -1)
        # a scale of zero stands for a group of zeros
        integers = torch.where(scales[..., None] == 0, 0, groups / scales[..., None]).round()
        self.register_buffer("integers", integers.to(torch.int16))
        self.register_buffer("before", scales)
        self.change = nn.Parameter(torch.zeros_like(scales))
        self.bias = bias

    def scales(self) -> torch.Tensor:
        """[outputs, groups], as they are now."""
        return self.before * (1 + self.change)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _OnGrid.apply(x, self.integers, self.scales(), self.bias)


class _OnGrid(torch.autograd.Function):
    """x Wᵀ, which keeps the integers for the way back: all layers' weights in float32 would take twice as much."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, integers: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, integers, scales)
        return functional.linear(x, _weight(integers, scales), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, integers, scales = ctx.saved_tensors
        (of_output,) = gradients
        of_weight = of_output.flatten(0, -2).T @ x.flatten(0, -2)
        of_scales = (of_weight.view(integers.shape) * integers).sum(-1)
        return of_output @ _weight(integers, scales), None, of_scales, None


def _weight(integers: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return (integers * scales[..., None]).flatten(1)


def _on_grid(model: "PreTrainedModel", files: dict[str, Path], *, transposed: bool) -> dict[str, GridLinear]:
    """Put a GridLinear in the place of every quantized linear of ``model``, whose tensors are in ``files``; by name."""
    found = {}
    for name, linear in list(model.named_modules()):
        if not isinstance(linear, nn.Linear) or f"{name}.scales" not in files:
            continue
        with safe_open(files[f"{name}.scales"], "pt") as file:
            scales = file.get_tensor(f"{name}.scales").to(linear.weight)
        found[name] = GridLinear(linear.weight.data, scales.T.contiguous() if transposed else scales, linear.bias)
        model.set_submodule(name, found[name])
    return found


def _norms(model: "PreTrainedModel", files: dict[str, Path]) -> dict[str, nn.Module]:
    """The norms whose weights are in the checkpoint, by name; their weights can be trained from here on."""
    found = {
        name: module
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower() and f"{name}.weight" in files
    }
    for module in found.values():
        module.weight.requires_grad_()
    return found


def _train(
    teacher: "PreTrainedModel",
    student: "PreTrainedModel",
    layers: list[GridLinear],
    norms: list[nn.Module],
    blocks: list[list[int]],
    steps: int,
    seed: int,
) -> dict[str, float]:
    groups = [{"params": [layer.change for layer in layers], "lr": RATE}]
    # Adam moves a weight by the rate, whatever its gradient's size
    groups += [{"params": [norm.weight], "lr": RATE * _size(norm.weight)} for norm in norms]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    count = min(len(blocks), max(1, TOKENS // len(blocks[0])))
    rows = _rows(blocks, count, random.Random(seed))
    # on a GPU other kernels of attention add up in any order on the way back
    attention = partial(sdpa_kernel, SDPBackend.MATH) if student.device.type == "cuda" else nullcontext
    losses = []
    for step in progress(range(steps), "distillation"):
        ids = torch.tensor(next(rows), device=student.device)
        with torch.no_grad():
            expected = teacher(ids).logits.log_softmax(-1)
        with attention():
            found = student(ids).logits.log_softmax(-1)
        divergence = functional.kl_div(found, expected, reduction="sum", log_target=True) / ids.numel()
        losses.append(divergence.item())
        if not math.isfinite(losses[-1]):
            raise PressError(
                f"quantize.distill_steps: the divergence from the float model is not finite at step {step + 1}: the "
                "model's activations overflow. Set it to 0."
            )
        optimizer.zero_grad()
        divergence.backward()
        optimizer.step()
        schedule.step()
    tenth = max(1, steps // 10)
    parts = {"first": losses[:tenth], "last": losses[-tenth:]}
    return {name: round(sum(part) / len(part), 5) for name, part in parts.items()}


def _size(weight: torch.Tensor) -> float:
    return float(weight.detach().square().mean().sqrt())


def _rate(step: int, steps: int) -> float:
    """A share of the rate: up in WARM_UP of the steps, then down as a cosine."""
    return min(1, (step + 1) / (WARM_UP * steps)) * (1 + math.cos(math.pi * step / steps)) / 2


def _rows(blocks: list[list[int]], count: int, order: random.Random) -> Iterator[list[list[int]]]:
    """``count`` blocks at a time, without end; each comes once before any comes again."""
    while True:
        left = order.sample(blocks, len(blocks))
        while len(left) >= count:
            yield [left.pop() for _ in range(count)]


def _store(folder: Path, trained: dict[str, torch.Tensor]) -> None:
    """Write ``trained`` over the tensors of these names, in the type that each is stored in."""
    for shard in checkpoint.shards(folder):
        with safe_open(shard, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        for name in trained.keys() & tensors.keys():
            tensors[name] = trained[name].to("cpu", tensors[name].dtype).contiguous()
        save_file(tensors, shard, metadata=metadata)
