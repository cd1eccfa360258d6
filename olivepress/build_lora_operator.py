"""Build the LoRA operators: lora.cu to PTX by NVRTC, the C around it to a shared object by zig's clang. Needs no GPU.

python -m olivepress.build_lora_operator, which `make lora-operator` calls. Both compilers are Python packages, pinned
in olivepress/native/requirements.txt: the same sources give the same bytes on every machine.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from olivepress.errors import PressError
from olivepress.lora_operator import BUILD, LIBRARY, SOURCES, digest, stamp

ARCHITECTURE = "compute_80"  # Ampere and what came after it: the driver compiles PTX for the card that it finds
TARGET = "x86_64-linux-gnu.2.28"  # the oldest glibc that ONNX Runtime's wheels run on
# cpu_loops.c's variants: name -> instruction set
PROCESSORS = {"v4": "x86_64_v4", "v3": "x86_64_v3", "v1": "x86_64"}
# and matmul_loops.c's
PRODUCTS = {"vnni": "cascadelake", "v3": "x86_64_v3", "v1": "x86_64"}
# psabi: of vectors wider than the oldest processor has, which are passed to inlined functions only
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-psabi"]


def load_nvrtc() -> ctypes.CDLL:
    """NVRTC of the package that requirements.txt names."""
    for entry in sys.path:
        for path in Path(entry).glob("nvidia/cuda_nvrtc/lib/libnvrtc.so.12"):
            return ctypes.CDLL(str(path))
    raise PressError("NVRTC is not installed. Run `make lora-operator`, which installs it for itself.")


def compile_ptx(source: Path) -> bytes:
    """PTX of a CUDA source file. Raises PressError with the compiler's words."""
    nvrtc = load_nvrtc()
    program, size = ctypes.c_void_p(), ctypes.c_size_t()

    def read(what: str) -> bytes:
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, buffer)
        return buffer.value

    code = source.read_bytes()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), code, source.name.encode(), 0, None, None)
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture={ARCHITECTURE}".encode())
    if nvrtc.nvrtcCompileProgram(program, len(options), options):
        raise PressError(f"{source}: {read('ProgramLog').decode()}")
    return read("PTX")


def zig(scratch: Path, *options: str) -> None:
    """Run zig's C compiler for the target. Raises PressError if it fails."""
    caches = {key: str(scratch / "zig") for key in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    command = [sys.executable, "-m", "ziglang", "cc", "-target", TARGET, *options]
    if subprocess.run(command, check=False, env={**os.environ, **caches}).returncode:
        raise PressError(f"{SOURCES}: not compiled, zig says why above.")


def compile_c(name: str, scratch: Path, *flags: str) -> str:
    """The object file of a C source; ``scratch`` has the PTX that one of them embeds."""
    out = scratch / f"{len(list(scratch.glob('*.o')))}.o"
    options = ["-std=c23", "-O2", *WARNINGS, "-fPIC", "-fvisibility=hidden", f"--embed-dir={scratch}", *flags]
    zig(scratch, *options, "-c", "-o", str(out), str(SOURCES / name))
    return str(out)


def build(out: Path) -> None:
    """Write the library to ``out``, and the digest of what it was made from beside it. Raises PressError."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        scratch = Path(folder)
        (scratch / "lora.ptx").write_bytes(compile_ptx(SOURCES / "lora.cu"))
        objects = [compile_c(name, scratch) for name in ("operators.c", "cuda.c", "cpu.c")]
        for name, processor in PROCESSORS.items():
            flags = [f"-mcpu={processor}", "-mprefer-vector-width=512", f"-DLOOPS=loops_{name}"]
            objects.append(compile_c("cpu_loops.c", scratch, *flags))
        for name, processor in PRODUCTS.items():
            objects.append(compile_c("matmul_loops.c", scratch, f"-mcpu={processor}", f"-DPRODUCTS=products_{name}"))
        zig(scratch, "-shared", "-s", "-o", str(scratch / LIBRARY), *objects, "-ldl", "-lpthread", "-lm")
        stamp(out).write_text(digest(), encoding="utf-8")
        (scratch / LIBRARY).replace(out)


@click.command()
def main() -> None:
    """Build the library where auto-opt looks for it."""
    build(BUILD / LIBRARY)
    click.echo(f"{BUILD / LIBRARY}: {(BUILD / LIBRARY).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
