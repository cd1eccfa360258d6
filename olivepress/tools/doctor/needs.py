"""What a profile asks of a machine."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivepress.core import checkpoint
from olivepress.core.params import asks_for_cuda, exported_only, ships_operators
from olivepress.fetch.sources import HUB
from olivepress.tools.doctor.facts import GIB

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Beside the weights: the CUDA context, cuBLAS and cuDNN workspaces, and the smallest activations that there can be.
GPU_OVERHEAD = GIB


@dataclass(frozen=True)
class Needs:
    """What a profile asks for. Sizes are lower bounds in bytes; None means that the model's size is not known."""

    model: str
    weights: int | None
    cuda: tuple[str, ...]  # the params that ask for CUDA
    providers: dict[str, str]  # target -> execution provider
    lora_operator: tuple[str, ...]  # the targets that ship the native library
    gpu_memory: int | None
    memory: int | None
    disk: int | None


def read_needs(root: Path, params: dict[str, Any]) -> Needs:
    """What ``params`` (params.yaml, checked) ask of a machine.

    The sizes are what the weights alone take: a run needs more, never less.
    """
    source = params["model"]["source"]
    devices = {f"{part}.device": params[part]["device"] for part in ("finetune", "evaluate")}
    dtypes = {f"{part}.device": params[part]["dtype"] for part in ("finetune", "evaluate")}
    providers = {name: target["provider"] for name, target in params["targets"].items() if not exported_only(target)}
    bits = params["quantize"]["bits"]
    parameters, weights = _model_size(root, source)

    def resident(on_gpu: bool) -> int | None:
        """The largest copy of the weights that one stage holds on this kind of device."""
        widths = [BYTES.get(dtypes[key], 2) for key in dtypes if devices[key].startswith("cuda") == on_gpu]
        return parameters * max(widths) if parameters and widths else None

    on_gpu = resident(True)
    disk = None
    if weights:
        small = weights * bits // 16  # the quantized checkpoint, and an export of it
        outs = {"models/quantized": small} | {f"models/onnx/{name}/model": small for name in params["targets"]}
        disk = sum(size for path, size in outs.items() if not (root / path).exists())
        disk += 0 if _fetched(root, source) else weights
    return Needs(
        model=source,
        weights=weights,
        cuda=tuple(asks_for_cuda(params)),
        providers=providers,
        lora_operator=tuple(name for name, target in params["targets"].items() if ships_operators(target)),
        gpu_memory=on_gpu + GPU_OVERHEAD if on_gpu else None,
        memory=resident(False),
        disk=disk,
    )


def _model_size(root: Path, source: str) -> tuple[int | None, int | None]:
    """(parameters, bytes of weights), from the folder or from the hub's listing; None if they cannot be known."""
    folder = root / ("models/base" if _fetched(root, source) else source)
    if (folder / "config.json").is_file():
        return checkpoint.parameters(folder), checkpoint.weight_bytes(folder)
    match = HUB.fullmatch(source)
    if not match:
        return None, None
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().model_info(match["name"], revision=match["revision"], files_metadata=True, timeout=10)
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError):
        return None, None  # no reason to stop: the model may lie in DVC's cache; fetch says what is wrong
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    weights = sum(files[name] for name in checkpoint.weight_names(files))
    parameters = info.safetensors.total if info.safetensors else weights // 2
    return parameters or None, weights or None


def _fetched(root: Path, source: str) -> bool:
    """Whether models/base holds this very source: an earlier run's base may be another model."""
    record = root / "models/inputs/base.json"
    if not (root / "models/base/config.json").is_file() or not record.is_file():
        return False
    return json.loads(record.read_text(encoding="utf-8")).get("source") == source
