"""Compile native/ into the wheel: its .cu files to PTX by NVRTC, the C around it to shared libraries by zig's clang.

Needs no GPU, and no ARM for ARM's. Both compilers are Python packages, build requirements pinned in pyproject.toml: the
same sources give the same bytes on every machine.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

GLIBC = "2.28"  # the oldest that ONNX Runtime's wheels run on
# Ampere and what came after it; Hopper and what came after it, where a kernel may be started before the last has ended.
# The driver compiles PTX for the card that it finds.
CARDS = ("compute_80", "compute_90")


@dataclass(frozen=True)
class Architecture:
    """A library of the wheel: its file, and what its loops are compiled for.

    ``loops``, of cpu_loops.c and attention_loops.c, and ``products``, of matmul_loops.c: the name of a variant, as
    processor.c has it -> clang's name of the processor.
    """

    library: str
    loops: dict[str, str]
    products: dict[str, str]
    options: tuple[str, ...] = ()


# By Linux's name of it (`uname -m`). x86-64's library has no architecture in its name: it was the only one before.
ARCHITECTURES = {
    "x86_64": Architecture(
        "olivepress_lora.so",
        {"v4": "x86_64_v4", "v3": "x86_64_v3", "v1": "x86_64"},
        {"vnni": "cascadelake", "v3": "x86_64_v3", "v1": "x86_64"},
        ("-mprefer-vector-width=512",),
    ),
    "aarch64": Architecture(
        "olivepress_lora.aarch64.so", {"v8": "generic"}, {"dot": "generic+dotprod", "v8": "generic"}
    ),
}
UNITS = {"cpu": ("cpu", "attention", "layer"), "cuda": ("cuda",)}  # C files of a library beside operators.c
TAG = "py3-none-" + ".".join(f"manylinux_{GLIBC.replace('.', '_')}_{name}" for name in ARCHITECTURES)
# psabi: of vectors wider than the oldest processor has, which are passed to inlined functions only
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-psabi"]


class LibraryHook(BuildHookInterface):
    """Puts the libraries into the wheel, and the wheel's tag right: no Python ABI, the platforms that they are for."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self.scratch = tempfile.TemporaryDirectory()
        build_data["pure_python"] = False
        build_data["tag"] = TAG
        out = Path(self.scratch.name)
        for library in build(Path(self.root) / "native", out):
            build_data["force_include"][str(library)] = f"olivepress_operators/{library.relative_to(out)}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self.scratch.cleanup()


def build(sources: Path, out: Path) -> list[Path]:
    """The libraries made of ``sources``, in the folder ``out`` with objects and PTX, those for CUDA in its cuda/.

    Raises RuntimeError.
    """
    for source in sources.glob("*.cu"):
        for card in CARDS:
            (out / f"{source.stem}.{card}.ptx").write_bytes(compile_ptx(source, card))
    includes = [f"--embed-dir={out}", "-isystem", str(sources / "vendor/onnxruntime")]
    libraries = []
    for name, architecture in ARCHITECTURES.items():
        target = f"{name}-linux-gnu.{GLIBC}"
        loops = compile_loops(sources, out, name, target)
        for device, folder, objects in (("cpu", out, loops), ("cuda", out / "cuda", [])):
            folder.mkdir(exist_ok=True)
            for unit in ("operators", *UNITS[device]):
                flags = [*includes, f"-DON_{device.upper()}"]
                objects.append(compile_unit(sources / f"{unit}.c", out / f"{name}-{device}-{unit}.o", target, *flags))
            libraries.append(folder / architecture.library)
            zig(out, target, "-shared", "-s", "-o", str(libraries[-1]), *objects, "-ldl", "-lpthread", "-lm")
    return libraries


def compile_loops(sources: Path, out: Path, name: str, target: str) -> list[str]:
    """Objects of the CPU's arithmetic on the architecture ``name``, and of what chooses among its variants.

    They are in the folder ``out``; ``target`` is zig's name of the system. Raises RuntimeError.
    """
    architecture = ARCHITECTURES[name]
    objects = [compile_unit(sources / "processor.c", out / f"{name}-processor.o", target)]
    for unit, macro, variants, options in (
        ("cpu_loops", "LOOPS", architecture.loops, architecture.options),
        ("matmul_loops", "PRODUCTS", architecture.products, ()),
        ("attention_loops", "ATTENTION", architecture.loops, architecture.options),
    ):
        for variant, processor in variants.items():
            flags = [f"-mcpu={processor}", *options, f"-D{macro}={macro.lower()}_{variant}"]
            objects.append(compile_unit(sources / f"{unit}.c", out / f"{name}-{unit}-{variant}.o", target, *flags))
    return objects


def compile_unit(source: Path, to: Path, target: str, *flags: str) -> str:
    """Compile a C file to the object ``to``; gives its path. Raises RuntimeError."""
    options = ["-std=c23", "-O2", *WARNINGS, "-fPIC", "-fvisibility=hidden", *flags]
    zig(to.parent, target, *options, "-c", "-o", str(to), str(source))
    return str(to)


def compile_ptx(source: Path, card: str) -> bytes:
    """PTX of a CUDA source file for ``card``, one of CARDS, and later ones.

    Raises RuntimeError with the compiler's words.
    """
    nvrtc = load_nvrtc()
    program, size = ctypes.c_void_p(), ctypes.c_size_t()

    def read(what: str) -> bytes:
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
        return buffer.value

    code = source.read_bytes()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, source.name.encode(), 0, None, None)
    flags = (f"--gpu-architecture={card}", f"--include-path={source.parent}", "--std=c++17")
    options = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    if nvrtc.nvrtcCompileProgram(program, len(options), options):
        raise RuntimeError(f"{source}: {read('ProgramLog').decode()}")
    return read("PTX")


def load_nvrtc() -> ctypes.CDLL:
    """NVRTC of the build requirement."""
    for entry in sys.path:
        for path in Path(entry).glob("nvidia/cuda_nvrtc/lib/libnvrtc.so.12"):
            return ctypes.CDLL(str(path))
    raise RuntimeError("NVRTC is not installed: build with the requirements of pyproject.toml, as pip does by itself.")


def zig(scratch: Path, target: str, *options: str) -> None:
    """Run zig's C compiler for ``target``. Raises RuntimeError if it fails."""
    caches = {key: str(scratch / "zig") for key in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *options]
    # in the scratch folder: #embed looks where it is started before it looks into --embed-dir
    if subprocess.run(command, check=False, cwd=scratch, env={**os.environ, **caches}).returncode:
        raise RuntimeError(f"{options[-1]}: not compiled for {target}, zig says why above.")
