"""WebGPU as a provider of ONNX Runtime: a plug-in of its own, which has to be registered before a model is loaded.

ONNX Runtime and ONNX Runtime GenAI each have an environment of their own in a process, so each is told of it. Where the
plug-in finds no GPU, ONNX Runtime would compute the whole graph on the CPU and say so in a warning alone: here that is
an error. A software adapter (SwiftShader) counts as a GPU where the plug-in is told so (ALLOW_SOFTWARE).
"""

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError
from olivepress.core.providers import CPU, WEBGPU

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtEpDevice, SessionOptions

ALLOW_SOFTWARE = "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"  # the plug-in's own variable
OLDEST = (1, 31)  # ONNX Runtime: one that is older than its plug-in says that its own memory is corrupt
INSTALL = (
    f"pip install 'olivepress[runtime-webgpu]' (onnxruntime {'.'.join(map(str, OLDEST))} or newer, and "
    "onnxruntime-ep-webgpu), or run make webgpu in a checkout; or take a CPU target"
)
# Tokens of a prompt that are read at a time on a software adapter. From 32 on, ONNX Runtime's attention for prompts is
# a shader that takes 8 or more lanes of a subgroup for granted; SwiftShader has 4, and gets numbers that are wrong by a
# fifth (docs/webgpu.md). With fewer tokens it is another shader, which is right.
PIECE = 31
HEAVY = {"GatherBlockQuantized", "GroupQueryAttention", "MatMul", "MatMulNBits"}  # where a graph's time and weights are


def register(folder: Path) -> None:
    """Have ONNX Runtime and ONNX Runtime GenAI know WebGPU; PressError, which names the model in ``folder``, where
    there is no plug-in, or no GPU that it takes."""
    if hindrance := problem():
        raise PressError(f"{folder}: was made for WebGPU: {hindrance}.")
    _tell_genai()


@cache
def problem() -> str | None:
    """Why this process cannot compute on WebGPU, and what to do; None where ONNX Runtime, which knows the plug-in from
    then on, has a device for it."""
    try:
        from onnxruntime_ep_webgpu import get_library_path
    except ModuleNotFoundError:
        return f"the plug-in is not installed: {INSTALL}"
    import onnxruntime

    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < OLDEST:
        return f"onnxruntime {onnxruntime.__version__} is too old for the plug-in: {INSTALL}"
    try:
        onnxruntime.register_execution_provider_library(WEBGPU, get_library_path())
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        return f"onnxruntime {onnxruntime.__version__} cannot load the plug-in ({error}): {INSTALL}"
    if _devices():
        return None
    allowed = "" if os.environ.get(ALLOW_SOFTWARE) == "1" else f", and {ALLOW_SOFTWARE}=1 allows no software adapter"
    return f"the plug-in finds no GPU here{allowed} (docs/webgpu.md): take a CPU target"


def session(path: Path, options: "SessionOptions") -> "InferenceSession":
    """ONNX Runtime's session of the graph in ``path`` on WebGPU.

    PressError where there is none, and for a graph with weights that ONNX Runtime would leave to the CPU: what is
    measured of it would be the CPU's. By its name alone (``providers=``) it takes a plug-in for something else, and
    computes all of it on the CPU.
    """
    import onnxruntime

    register(path.parent)
    options.add_provider_for_devices(_devices()[:1], {})
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        # without it, ONNX Runtime would take the CPU where the GPU does not answer
        found = onnxruntime.InferenceSession(path, options, enable_fallback=False)
    except RuntimeError as error:  # every error of ONNX Runtime's is one
        raise PressError(f"{path}: WebGPU cannot compute it: {' '.join(str(error).split())[-400:]}") from error
    parts = [part for part in found.get_provider_graph_assignment_info() if part.ep_name == CPU]
    if left := sorted(HEAVY & {node.op_type for part in parts for node in part.get_nodes()}):
        raise PressError(f"{path}: WebGPU leaves {', '.join(left)} to the CPU: export it for WebGPU again.")
    return found


def piece() -> int | None:
    """PIECE on a software adapter; None on a GPU, which reads a prompt as a whole."""
    from onnxruntime import OrtHardwareDeviceType

    return PIECE if all(device.device.type == OrtHardwareDeviceType.CPU for device in _devices()[:1]) else None


def _devices() -> "list[OrtEpDevice]":
    import onnxruntime

    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == WEBGPU]


@cache
def _tell_genai() -> None:
    """Once a process: it refuses the same name twice."""
    import onnxruntime_genai as og
    from onnxruntime_ep_webgpu import get_library_path

    og.register_execution_provider_library(WEBGPU, get_library_path())
