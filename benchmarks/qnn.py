"""How far Olive's recipe for Qualcomm's NPUs goes on a machine without one, with a checkpoint that quantize wrote.

The passes and settings are those of Olive's examples/phi3_5/qnn_config.json, from ModelBuilder on: what comes before
them there (QuaRot, GPTQ) makes other weights, and ours are quantized. The last pass compiles for the NPU (HTP) with
Qualcomm's own compiler, which onnxruntime-qnn has for x86-64 Linux, too; it is not in the lock:

    pip install --no-deps --target qnn onnxruntime-qnn==2.4.0
    PYTHONPATH=qnn LD_LIBRARY_PATH=qnn/onnxruntime_qnn python -m benchmarks.qnn --model models/quantized --out FOLDER

docs/npu.md says what came of it. Nothing of it is a target of the pipeline.
"""

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olivepress.core import checkpoint
from olivepress.core.outputs import sizes, write_json
from olivepress.export.check import relative_error
from olivepress.export.mended_builder import mended_builder

if TYPE_CHECKING:
    import numpy as np

CONTEXT = 64  # tokens of a prompt that are read at a time: the recipe's
KEPT = ["GatherBlockQuantized", "GroupQueryAttention", "MatMulNBits"]  # computed in float, as in the recipe
SURGERIES = ["RemoveRopeMultiCache", "AttentionMaskToSequenceLengths", "SimplifiedLayerNormToL2Norm"]
HTP = {"htp_performance_mode": "burst", "htp_graph_finalization_optimization_mode": "3", "soc_model": "60"}
COMPARED = ("MatMulNBitsToQDQ", "GraphSurgeries", "OnnxStaticQuantization")  # these are one graph with logits


@click.command()
@click.option("--model", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--texts", default="data/calibration.jsonl", help="JSON lines with `text`, for the activations' ranges.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for what each pass writes.")
def main(model: Path, texts: str, out: Path) -> None:
    """Run the passes one after the other up to the first that fails; write OUT/record.json."""
    os.environ.setdefault("OLIVE_DISABLE_TELEMETRY", "1")
    logging.getLogger("olive").setLevel(logging.WARNING)
    shutil.rmtree(out, ignore_errors=True)
    record: dict[str, Any] = {}
    expected = None
    for name, made in _results(model, texts, out, record):
        files = sizes(out / name)
        record[name] |= {"bytes": sum(files.values()), "operators": _operators(out / name)}
        if name == "ModelBuilder":
            expected = _logits(Path(made.model_path))
        elif name in COMPARED and expected is not None:
            record[name] |= _away(_logits(Path(made.model_path)), expected)
        click.echo(f"{name}: {record[name]}")
    write_json(out / "record.json", record)


def _passes(model: Path, texts: str) -> list[tuple[str, dict[str, Any]]]:
    layers = checkpoint.read_config(model)["num_hidden_layers"]
    halves = {f"model.layers.{number}": 1 + (2 * number >= layers) for number in range(layers)}
    parts = {"model.embed_tokens": 0, **halves, "lm_head": 3}
    rows = {"data_name": "json", "data_files": texts, "split": "train"}
    read = {"strategy": "line-by-line", "add_special_tokens": False, "max_samples": 8, "max_seq_len": CONTEXT}
    tokens = {"params": {"model_name": str(model), "text_cols": "text", **read}}
    data = {
        "name": "texts",
        "type": "HuggingfaceContainer",
        "load_dataset_config": {"params": rows},
        "pre_process_data_config": {"type": "text_generation_huggingface_pre_process", **tokens},
    }
    outside = {"save_as_external_data": True}
    ranges = {"activation_type": "uint16", "precision": "uint8", "calibration_providers": ["CPUExecutionProvider"]}
    return [
        ("ModelBuilder", {"precision": "int4", "int4_block_size": 32, "int4_accuracy_level": 4}),
        (
            "MatMulNBitsToQDQ",
            {"use_int4": True, "add_zero_point": True, "nodes_to_exclude": ["/lm_head/MatMul_Q4"], **outside},
        ),
        ("GraphSurgeries", {"surgeries": [{"surgeon": name} for name in SURGERIES], **outside}),
        (
            "OnnxStaticQuantization",
            {**ranges, "quant_preprocess": True, "op_types_to_exclude": KEPT, "data_config": data, **outside},
        ),
        ("SplitModel", {"split_assignments": ";".join(f"{name}={part}" for name, part in parts.items())}),
        ("StaticLLM", {"batch_size": 1, "context_length": CONTEXT}),
        ("EPContextBinaryGenerator", {"provider_options": HTP, "weight_sharing": True}),
    ]


def _results(model: Path, texts: str, out: Path, record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(pass, Olive's handler of what it made) one after the other; the one that fails is in ``record``."""
    import olive.common.utils
    import olive.passes.onnx.common
    from olive.hardware.accelerator import AcceleratorSpec, Device
    from olive.hardware.constants import ExecutionProvider
    from olive.model import HfModelHandler
    from olive.package_config import OlivePackageConfig
    from olive.passes.olive_pass import create_pass_from_dict

    # Olive links data files, and onnx reads none that has two names
    for module in (olive.common.utils, olive.passes.onnx.common):
        module.hardlink_copy_file = _copy
    known = OlivePackageConfig.load_default_config()
    npu = AcceleratorSpec(Device.NPU, ExecutionProvider.QNNExecutionProvider)
    made: Any = HfModelHandler(model_path=str(model))
    for name, config in _passes(model, texts):
        start = time.perf_counter()
        try:
            olive_pass = create_pass_from_dict(
                known.import_pass_module(name), config, accelerator_spec=npu, disable_search=True
            )
            with mended_builder():
                made = olive_pass.run(made, str(out / name))
        except Exception as error:  # whatever ends a recipe is the result
            record[name] = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
            click.echo(f"{name}: {record[name]}")
            return
        record[name] = {"seconds": round(time.perf_counter() - start, 1)}
        yield name, made


def _copy(source: str | Path, target: str | Path, **_: Any) -> None:
    source, target = Path(source), Path(target)
    shutil.copyfile(source, target / source.name if target.is_dir() else target)


def _operators(folder: Path) -> dict[str, dict[str, int]]:
    """File -> how often it has each operator."""
    import onnx

    return {
        path.name: dict(Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node))
        for path in sorted(folder.glob("*.onnx"))
    }


def _logits(path: Path) -> "np.ndarray":
    """Those of 40 random tokens on the CPU, [40, vocabulary]; the same tokens for every graph of a model."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    tokens = session.get_outputs()[0].shape[-1]
    ids = np.random.default_rng(0).integers(8, tokens - 8, 40)
    feeds: dict[str, np.ndarray] = {}
    for value in session.get_inputs():
        whole = np.int32 if value.type == "tensor(int32)" else np.int64
        if value.name.startswith("past_key_values"):
            feeds[value.name] = np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
        else:
            feeds[value.name] = {
                "input_ids": ids[None].astype(whole),
                "attention_mask": np.ones((1, len(ids)), whole),
                "past_seq_len": np.array([[len(ids) - 1]], whole),
                "total_seq_len": np.array([len(ids)], whole),
            }[value.name]
    return session.run(["logits"], feeds)[0][0]


def _away(found: "np.ndarray", expected: "np.ndarray") -> dict[str, float]:
    """How far logits are from others: |found - expected| / |expected|, and the share of same likeliest tokens."""
    return {
        "relative": round(relative_error(found, expected), 5),
        "same_top": float((found.argmax(-1) == expected.argmax(-1)).mean()),
    }


if __name__ == "__main__":
    main()
