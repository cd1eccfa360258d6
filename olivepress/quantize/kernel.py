"""CUDA kernels of this package, compiled where they run."""

import sys
from pathlib import Path
from typing import Any

# What compiling or the first launch raises where there is no NVRTC, or PyTorch has changed its private access to it
UNAVAILABLE = (AttributeError, ImportError, OSError, RuntimeError)


def compile_kernel(source: Path, name: str, *, before: str = "") -> Any:
    """The kernel ``name`` of a .cu file with the text ``before`` in front, by PyTorch's own access to NVRTC.

    That needs no compiler on the machine. Raises one of UNAVAILABLE.
    """
    import torch
    from torch.utils import cpp_extension

    # PyTorch asks for the CUDA toolkit's headers, which these kernels do without
    cpp_extension.CUDA_HOME = cpp_extension.CUDA_HOME or sys.prefix
    return torch.cuda._compile_kernel(before + source.read_text(encoding="utf-8"), name)
