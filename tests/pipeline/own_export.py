"""An export of the finished pipeline's model for a target that the pipeline itself does not have."""

from pathlib import Path
from typing import Any

from in_process import run_stage


def options_of(**options: object) -> list[object]:
    """A stage's command line: lm_head=… is --lm-head …"""
    return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]


def export_with_travel(finished: Any, folder: Path, *flags: object) -> None:
    """Write the model, by auto_opt's ``flags``, and the adapter travel for it, with their metrics, into ``folder``."""
    models = finished.folder / "models"
    places = options_of(model=models / "quantized", out=folder / "model", quality=folder / "quality.json")
    done = run_stage("auto_opt", *places, *flags)
    assert done.exit_code == 0, done.output[-3000:]
    places = options_of(
        adapter=models / "adapters/travel",
        model=folder / "model",
        out=folder / "adapters/travel.onnx_adapter",
        quality=folder / "adapter.json",
    )
    done = run_stage("convert_adapter", *places)
    assert done.exit_code == 0, done.output[-3000:]
