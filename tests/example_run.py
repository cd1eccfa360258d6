"""A finished run as its small files show it: one target, its adapters, and what the stages wrote of them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

THRESHOLDS = {
    "max_quantization_loss_increase": 0.3,
    "min_finetuning_gain": 0.5,
    "max_forgetting": 0.5,
    "max_export_loss_increase": 0.02,
    "max_kl_divergence": 0.01,
    "min_same_top_token": 0.95,
    "max_bytes": 6000000,
    "max_loss_increase_since_release": 0.1,
    "max_size_ratio_to_release": 1.1,
    "min_relative_speed": 0.3,
}
OF_PYTORCH = ("quantized", "finetuned")  # what ONNX Runtime is compared with
LOSS = {"base": 3.4, "quantized": 3.5, "quantized_onnx": 3.501, "finetuned": 2.3, "finetuned_onnx": 2.302}
PLAIN = {"base": 1.62, "quantized": 1.7, "quantized_onnx": 1.702}
TUNED = {**PLAIN, "finetuned": 1.9, "finetuned_onnx": 1.903}


def write_run(
    root: Path, adapters: tuple[str, ...] = ("travel",), target: str = "cpu-int4", text: str = "Paris."
) -> None:
    """Write it below ``root``; ``text``: what every model answers, and what every data file and licence is called."""
    named = text.encode("utf-8", "ignore").decode()  # half of a surrogate pair is refused in params.yaml
    params = params_of(adapters, target, named)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"fetch": {"cmd": "true"}}}))
    outs = {"models/base": 6950000, "models/quantized": 3600000, f"models/onnx/{target}/model": 4470000}
    lock = {f"made-{path}": {"outs": [{"path": path, "size": size, "md5": "0a1b"}]} for path, size in outs.items()}
    for name in adapters:
        lock[f"prepare@{name}"] = {"deps": [{"path": f"{named}.jsonl", "md5": "86679f95ab3f66c0a3334fcfa9b6b047"}]}
        file = f"models/onnx/{target}/adapters/{name}.onnx_adapter"
        lock[f"convert-adapter@{name}-{target}"] = {"outs": [{"path": file, "size": 83432, "md5": "2c3d"}]}
        cost = f"cost/smoke-infer/{target}/{name}"
        lock[f"smoke-infer@{name}-{target}"] = {"cmd": f"smoke --cost results/{cost}.json"} if " " not in cost else {}
        _write_adapter(root, name, target, text)
    lock = {stage: {"cmd": "true", **entry} for stage, entry in lock.items()}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}, sort_keys=False))
    general = _measured(PLAIN, 512)
    parts = {"embedding": 0, "head": 400000, "projections": 3620000, "scales": 450000}
    write(root, f"quality/auto-opt/{target}", {"bytes": 4470000, "bytes_by_part": parts})
    write(root, f"quality/evaluate-base/{target}", {"general": general})
    write(root, f"intervals/{target}/general", _intervals("general", general))
    write(root, f"samples/{target}/general", [_sample("general", text, ("base", "quantized_onnx"))])
    write(root, "quality/fetch", {"parameters": 3410176})


def params_of(
    adapters: tuple[str, ...] = ("travel",), target: str = "cpu-int4", text: str = "Paris."
) -> dict[str, Any]:
    """The params of such a run, as far as the summary and the page look at them."""
    return {
        "register": {"name": "ft-for-travel", "version": "0.1.0", "licence": text},
        "model": {"source": text},
        "quantize": {"algorithm": "awq", "bits": 4, "group_size": 32, "zero_point": True, "calibration_data": text},
        "adapters": {name: {"data": f"{text}.jsonl", "lora": {"rank": 4}} for name in adapters},
        "shipped": {"adapter": list(adapters)},
        "targets": {
            target: {"provider": "CPUExecutionProvider", "precision": "int4", "lm_head": "int8", "embedding": "int8"}
        },
        "thresholds": THRESHOLDS,
    }


def _write_adapter(root: Path, name: str, target: str, text: str) -> None:
    held_out, general = _measured(LOSS, 77), _measured(TUNED, 512)
    write(root, f"quality/evaluate/{target}/{name}", {"held_out": held_out, "general": general})
    write(root, f"quality/convert-adapter/{target}/{name}", {"bytes": 83432})
    spread = _intervals("held_out", held_out) + _intervals("general", general)
    write(root, f"intervals/{target}/{name}", spread)
    steps = ("base", "quantized_onnx", "finetuned_onnx")
    write(root, f"samples/{target}/{name}", [_sample(data, text, steps) for data in ("held_out", "general")])
    write(root, f"quality/prepare/{name}", {"train": {"rows": 291}, "held_out": {"rows": 77}})
    answers = [{"adapter": who, "prompt": text, "text": text, "tokens": [1]} for who in (None, name)]
    write(root, f"answers/{target}/{name}", answers)
    speed = {
        "tokens_per_second": {"no_adapter": 118.2, "adapter": 102.4},
        "seconds_to_first_token": {"no_adapter": 0.0125, "adapter": 0.014},
    }
    write(root, f"cost/smoke-infer/{target}/{name}", {"seconds": 1, **speed})
    facts = {"processor": "A processor", "machine": "x86_64", "cpus": 2}
    write(root, f"machine/facts/smoke-infer/{target}/{name}", facts)
    curve = root / f"results/plots/training/{name}.csv"
    curve.parent.mkdir(parents=True, exist_ok=True)
    curve.write_text("rows,step,loss\ntraining,1,3.9\ntraining,2,2.4\nheld out,0,3.5\nheld out,2,2.3\n")


def write(root: Path, name: str, value: Any) -> None:
    """Write results/``name``.json below ``root``."""
    path = root / f"results/{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def commit(root: Path, message: str) -> str:
    """Commit everything below ``root``, a git and DVC project from then on; returns the commit's hash."""
    if not (root / ".git").exists():
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
            subprocess.run(command, cwd=root, check=True)
        for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
            subprocess.run(["git", "config", key, value], cwd=root, check=True)
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    subprocess.run(["git", "commit", "-q", "-m", message], cwd=root, check=True)
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def _measured(loss: dict[str, float], rows: int) -> dict[str, Any]:
    checked = [step for step in OF_PYTORCH if step in loss]
    return {
        "rows": rows,
        "tokens": 40 * rows,
        "loss": loss,
        "perplexity": {step: 2.718281828**value for step, value in loss.items()},
        "rouge_l": dict.fromkeys(loss, 0.21),
        "exact_match": dict.fromkeys(loss, 0.125),
        "kl_divergence": dict.fromkeys(checked, 0.000078),
        "same_top_token": dict.fromkeys(checked, 0.991),
    }


def _intervals(data: str, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Of every value, a tenth on either side; of the differences that have thresholds, a hundredth."""
    found = [
        (metric, step, None, value, 0.1 if metric == "loss" else 0)
        for metric in ("loss", "kl_divergence", "same_top_token")
        for step, value in measured[metric].items()
    ]
    loss = measured["loss"]
    pairs = [("quantized", "base"), ("finetuned", "quantized"), *((f"{step}_onnx", step) for step in OF_PYTORCH)]
    found += [
        ("loss", step, minus, loss[step] - loss[minus], 0.01) for step, minus in pairs if {step, minus} <= loss.keys()
    ]
    return [
        {"set": data, "metric": metric, "step": step, "minus": minus, "value": value}
        | {"low": value - margin, "high": value + margin}
        for metric, step, minus, value, margin in found
    ]


def _sample(data: str, text: str, steps: tuple[str, ...]) -> dict[str, Any]:
    return {"set": data, "prompt": text, "reference": text, "answers": dict.fromkeys(steps, text)}
