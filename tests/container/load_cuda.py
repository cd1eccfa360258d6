"""Run in a CUDA image: import, resolve and open what needs CUDA; the last line printed is JSON.

The server's image has no torch.
"""

import ctypes
import json
import re
import site
import subprocess
from contextlib import suppress
from pathlib import Path

import onnxruntime
import onnxruntime_genai

torch = None
with suppress(ModuleNotFoundError):
    import torch

PACKAGES = Path(site.getsitepackages()[0])
FOLDERS = ("nvidia/*/lib", "torch/lib", "onnxruntime/capi", "onnxruntime_genai")
OPENED = (
    "libcudart.so.12",
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcudnn.so.9",
    "libcufft.so.11",
    "libcurand.so.10",
)

resolved, unresolved = [], {}
for folder in FOLDERS:
    for library in sorted(PACKAGES.glob(f"{folder}/*.so*")):
        listed = subprocess.run(["ldd", library], capture_output=True, text=True, check=False).stdout
        missing = re.findall(r"^\s*(\S+) => not found", listed, re.M)
        if missing:
            unresolved[str(library.relative_to(PACKAGES))] = missing
        else:
            resolved.append(library.name)

opened, failed = [], {}
capi = PACKAGES / "onnxruntime/capi"
provider = [capi / "libonnxruntime_providers_shared.so", capi / "libonnxruntime_providers_cuda.so"]
for library in (*OPENED, *provider, *sorted((PACKAGES / "onnxruntime_genai").glob("*cuda*.so"))):
    try:
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        opened.append(Path(library).name)
    except OSError as error:
        failed[Path(library).name] = str(error)

print(
    json.dumps(
        {
            "torch": torch and torch.__version__,
            "torch_cuda": torch and torch.version.cuda,
            "onnxruntime": onnxruntime.__version__,
            "providers": onnxruntime.get_available_providers(),
            "genai": onnxruntime_genai.__version__,
            "resolved": resolved,
            "unresolved": unresolved,
            "opened": opened,
            "failed_to_open": failed,
        }
    )
)
