"""What the decode benchmarks measure: a random checkpoint, its int4 twin, adapters, and every way to export them."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import make_random

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import onnxruntime_genai as og
    import torch

    from olivepress.export.model_builder import Target

WARM_UP = 8  # steps that are not counted: with a CUDA graph, ONNX Runtime runs one plainly and captures the next
# AutoAWQ's order of the eight columns in one int32, lowest four bits first
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
PROJECTIONS = ("qkv_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "gate_proj", "up_proj", "down_proj")
ATTENTION = PROJECTIONS[:5]


def make_float(preset: str | Path, out: Path, layers: int | None = None) -> None:
    """A random float16 checkpoint of one of tools/random-configs, or of a config.json."""
    make_random.make(preset if isinstance(preset, Path) else make_random.PRESETS[preset], out, layers=layers)


def make_int4(source: Path, out: Path, group: int) -> None:
    """The same checkpoint with its projections rounded to int4 with zero points, in AWQ's GEMM format.

    No calibration, no search: the bytes per token and the kernels are those of AWQ, and random weights have no quality
    to keep.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    out.mkdir(parents=True)
    for path in source.iterdir():
        if path.suffix != ".safetensors" and path.name not in ("model.safetensors.index.json", "config.json"):
            shutil.copyfile(path, out / path.name)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": group,
        "zero_point": True,
        "modules_to_not_convert": None,
    }
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    tensors = {}
    for shard in sorted(source.glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                module, _, kind = name.rpartition(".")
                if kind == "weight" and module.rpartition(".")[2] in PROJECTIONS:
                    for part, tensor in _round(file.get_tensor(name), group).items():
                        tensors[f"{module}.{part}"] = tensor
                else:
                    tensors[name] = file.get_tensor(name)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def _round(weight: "torch.Tensor", group: int) -> "dict[str, torch.Tensor]":
    """weight [out, in] -> qweight [in, out/8] int32, qzeros [in/group, out/8] int32, scales [in/group, out] float16."""
    import torch

    groups = weight.T.float().reshape(-1, group, len(weight))
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    scales = ((high - low) / 15).half().float()
    zeros = (-low / scales).round().clamp(0, 15)
    integers = (groups / scales + zeros).round().clamp(0, 15).reshape(weight.T.shape)

    def packed(values: "torch.Tensor") -> "torch.Tensor":
        columns = values.to(torch.int32).reshape(len(values), -1, 8)[..., ORDER]
        shifts = torch.arange(0, 32, 4, dtype=torch.int32)
        return (columns << shifts).sum(-1, dtype=torch.int32)

    return {"qweight": packed(integers), "qzeros": packed(zeros[:, 0]), "scales": scales[:, 0].half()}


def make_adapter(checkpoint: Path, out: Path, rank: int, projections: tuple[str, ...] = PROJECTIONS) -> None:
    """A PEFT adapter with random A and B on ``checkpoint``'s projections, small enough to keep logits finite."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(rank)
    tensors, modules = {}, set()
    for shard in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                module, _, kind = name.rpartition(".")
                if kind == "weight" and module.rpartition(".")[2] in projections:
                    modules.add(module.rpartition(".")[2])
                    outputs, inputs = file.get_slice(name).get_shape()
                    for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                        matrix = torch.randn(shape, generator=generator) / shape[1] ** 0.5
                        tensors[f"base_model.model.{module}.lora_{side}.weight"] = matrix * (0.3 if side == "B" else 1)
    out.mkdir(parents=True)
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": checkpoint.as_posix(),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(modules),
        "inference_mode": True,
    }
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def export_raw(source: Path, adapter: Path | None, out: Path, provider: str) -> None:
    """As upstream does it: Olive's ModelBuilder pass on the float base, and its ExtractAdapters with an adapter.

    These are the two passes of `olive auto-opt --use_model_builder --precision int4` that apply; both with their own
    defaults, so the base and the adapter are both rounded to int4.
    """
    from olive.hardware.accelerator import AcceleratorSpec, Device
    from olive.hardware.constants import ExecutionProvider
    from olive.model import HfModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.extract_adapters import ExtractAdapters
    from olive.passes.onnx.model_builder import ModelBuilder

    device = Device.CPU if provider == "CPUExecutionProvider" else Device.GPU
    accelerator = AcceleratorSpec(device, ExecutionProvider(provider))
    model = HfModelHandler(model_path=str(source), adapter_path=str(adapter) if adapter else None)
    built = out.with_name(out.name + "-built") if adapter else out
    builder = create_pass_from_dict(
        ModelBuilder, {"precision": "int4"}, accelerator_spec=accelerator, disable_search=True
    )
    exported = builder.run(model, str(built))
    if adapter:
        extract = create_pass_from_dict(
            ExtractAdapters, {"save_as_external_data": True}, accelerator_spec=accelerator, disable_search=True
        )
        extract.run(exported, str(out))
        for path in built.iterdir():
            if not path.name.startswith("model.onnx"):
                shutil.copyfile(path, out / path.name)
        shutil.rmtree(built)


def export_base(quantized: Path, out: Path, target: "Target") -> None:
    """The quantized base as the GenAI builder exports it, without LoRA inputs."""
    from olivepress.export.model_builder import export
    from olivepress.export.passes.rotary_caches import RotaryCaches
    from olivepress.export.surgery import apply

    export(quantized, out, target)
    if target.provider == "CUDAExecutionProvider":
        apply(out / "model.onnx", RotaryCaches())  # or else there is nothing to compare with under a CUDA graph


def export_ours(
    quantized: Path,
    out: Path,
    target: "Target",
    lora_inputs: str = "all",
    *,
    operator: bool = False,
    both: bool = False,
    cache: str = "float16",
) -> None:
    """As stages/auto_opt.py exports it; ``cache`` is that of native operators on a CPU."""
    from olivepress.export.model_builder import export
    from olivepress.export.operator_library import copy_libraries
    from olivepress.export.session_options import set_session_options
    from olivepress.export.surgery import transform

    export(quantized, out, target)
    operators = target.provider if operator else None
    done = transform(out / "model.onnx", lora_inputs, operators=operators, both=both, cache=cache)
    if operator:
        copy_libraries(out, target.provider)
    set_session_options(out, target.provider, cuda_graph=True, original_length=done.original_length)


def convert_adapter(adapter: Path, model: Path, out: Path) -> None:
    from olivepress.export.adapter import convert

    convert(adapter, model, out)


def bytes_per_token(folder: Path) -> int:
    """Bytes of weights that one token reads: all but the embedding, of which it reads a row, and the rotary tables."""
    import math

    import onnx
    from onnx import helper

    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    return sum(
        math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in graph.initializer
        if not tensor.name.startswith(("model.embed_tokens", "cos_cache", "sin_cache"))
    )


def prompt(length: int) -> "np.ndarray":
    """Always the same random tokens [length], int32."""
    import numpy as np

    return np.random.default_rng(0).integers(16, 272, length).astype(np.int32)


def runner(model: "og.Model", adapters: "og.Adapters", adapter: str | None, rows: int = 1) -> "Callable[..., tuple]":
    """A function (prompt length, tokens) -> (tokens per second after the warm-up, seconds of the prompt, tokens).

    ``rows`` equal prompts are computed as one batch: the rate is that of all rows, the tokens are the first's.
    """
    import numpy as np
    import onnxruntime_genai as og

    def run(prompt_length: int, tokens: int) -> tuple[float, float, list[int]]:
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=prompt_length + tokens, do_sample=False, batch_size=rows)
        generator = og.Generator(model, params)
        if adapter:
            generator.set_active_adapter(adapters, adapter)
        start = time.perf_counter()
        generator.append_tokens(np.tile(np.asarray(prompt(prompt_length), np.int32), (rows, 1)))
        generator.generate_next_token()
        answer = [int(generator.get_next_tokens()[0])]
        prefill = time.perf_counter() - start
        while len(answer) < tokens and not generator.is_done():
            if len(answer) == WARM_UP:
                start = time.perf_counter()
            generator.generate_next_token()
            answer.append(int(generator.get_next_tokens()[0]))
        rate = rows * (len(answer) - WARM_UP) / (time.perf_counter() - start)
        return rate, prefill, answer

    return run


def shape(work: Path) -> dict[str, int]:
    """The sizes of the model in ``work``/float that decide how fast it can be."""
    config = json.loads((work / "float/config.json").read_text(encoding="utf-8"))
    return {key: config[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")}


def compare(record: dict[str, Any]) -> None:
    """Which cases gave the same tokens: each group's name is its first case."""
    first: dict[str, str] = {}
    for name, metrics in record["cases"].items():
        if "answer" in metrics:
            answer = metrics.pop("answer")
            metrics["tokens_as"] = first.setdefault(str(answer), name)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say on standard error what took how long."""
    start = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
