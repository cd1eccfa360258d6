"""DirectML and TensorRT for RTX: what this project exports for and has never run (docs/directml.md).

A model that was made for one of them is loaded where this process has the provider and a device for it, and refused
elsewhere: GenAI's own words are of a library that is not there, and ONNX Runtime would compute on the CPU.
"""

from functools import cache
from pathlib import Path

from olivepress.core.errors import PressError
from olivepress.core.providers import DIRECTML, TENSORRT_RTX

# GenAI's names of them, in small letters
NAMES = {"dml": DIRECTML, "nvtensorrtrtx": TENSORRT_RTX}
TITLES = {DIRECTML: "DirectML", TENSORRT_RTX: "TensorRT for RTX"}
NEEDS = {
    DIRECTML: "it is on Windows alone, with a GPU for DirectX 12: pip install 'olivepress[runtime-directml]' there, in "
    "an environment without the CPU build",
    TENSORRT_RTX: "it takes Windows or Linux with an NVIDIA RTX card (Ampere or newer) and its driver: "
    "pip install 'olivepress[runtime-tensorrt-rtx]' there",
}


def register(folder: Path, provider: str) -> None:
    """Have ONNX Runtime GenAI know ``provider``; PressError, which names the model in ``folder`` and says what to
    install on which system, where this process cannot compute on it."""
    if hindrance := problem(provider):
        raise PressError(f"{folder}: was made for {TITLES[provider]} ({provider}): {hindrance}.")
    if provider == TENSORRT_RTX:
        _tell_genai()


@cache
def problem(provider: str) -> str | None:
    """Why this process cannot compute on ``provider``, and what to do; None where it has it, and a device."""
    import onnxruntime
    import onnxruntime_genai as og

    wanted = f"{NEEDS[provider]}; or take a CPU target"
    if provider == DIRECTML:
        return None if og.is_dml_available() else f"this onnxruntime_genai has none: {wanted}"
    try:
        from onnxruntime_ep_nv_tensorrt_rtx import get_ep_name, get_library_path
    except ModuleNotFoundError:
        return f"the plug-in is not installed: {wanted}"
    try:
        onnxruntime.register_execution_provider_library(get_ep_name(), get_library_path())
    except Exception as error:  # ONNX Runtime's errors have no class of their own
        return f"onnxruntime {onnxruntime.__version__} cannot load the plug-in ({error}): {wanted}"
    if any(device.ep_name == get_ep_name() for device in onnxruntime.get_ep_devices()):
        return None
    return f"the plug-in finds no card here: {wanted}"


@cache
def _tell_genai() -> None:
    """Once a process: it refuses the same name twice."""
    import onnxruntime_genai as og
    from onnxruntime_ep_nv_tensorrt_rtx import get_ep_name, get_library_path

    og.register_execution_provider_library(get_ep_name(), get_library_path())
