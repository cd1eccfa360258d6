"""WebGPU as a provider of ONNX Runtime: a plug-in of its own, which has to be registered before a model is loaded."""

from functools import cache
from pathlib import Path

from olivepress.core.errors import PressError

NAME = "WebGpuExecutionProvider"


def register(folder: Path) -> None:
    """Have ONNX Runtime GenAI know WebGPU; PressError, which names the model in ``folder``, where it cannot."""
    try:
        from onnxruntime_ep_webgpu import get_library_path
    except ModuleNotFoundError as error:
        raise PressError(
            f"{folder}: was made for WebGPU, whose plug-in is not installed: pip install onnxruntime-ep-webgpu and "
            "onnxruntime 1.31 or newer, in an environment of their own, or load a CPU target."
        ) from error
    try:
        _register(get_library_path())
    except RuntimeError as error:
        raise PressError(f"{folder}: ONNX Runtime cannot load WebGPU's plug-in: {error}") from error


@cache
def _register(library: str) -> None:
    """Once a process: ONNX Runtime refuses the same name twice."""
    import onnxruntime_genai as og

    og.register_execution_provider_library(NAME, library)
