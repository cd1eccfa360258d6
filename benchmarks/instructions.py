"""Models and runtimes held to AVX2, on a processor that has more.

Nothing of ONNX Runtime's, llama.cpp's or our operators' own can be told by a switch. So our library is built anew with
its choice made, and llama.cpp gets one of its back ends alone. ONNX Runtime's own kernels take what the processor has:
a graph without our operators cannot be held to it.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from olivepress.core.artifact import LIBRARIES, LIBRARY, library_for
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output, sha256, write_json

ROOT = Path(__file__).parents[1]
OPERATORS = ROOT / "operators"
BACKEND = "libggml-cpu-haswell.so"  # llama.cpp's for AVX2, FMA and F16C
# In the place of operators/native/processor.c: its v3, whatever the processor.
PROCESSOR = """\
#include "attention.h"

extern const Products products_v3;
extern const Loops loops_v3;
extern const AttentionLoops attention_v3;

static const Processor v3 = {"AVX2", &loops_v3, &products_v3, &attention_v3};

const Processor *processor(void) { return &v3; }
"""
# Run with the build's requirements: the library of operators/hatch_build.py, but for that file.
COMPILE = """\
import sys
from pathlib import Path
from hatch_build import GLIBC, UNITS, compile_loops, compile_unit, zig

native, processor, out, library = map(Path, sys.argv[1:])
target = f"x86_64-linux-gnu.{GLIBC}"
flags = [f"--embed-dir={out}", "-isystem", str(native / "vendor/onnxruntime"), "-DON_CPU"]
loops = [path for path in compile_loops(native, out, "x86_64", target) if not path.endswith("-processor.o")]
objects = [*loops, compile_unit(processor, out / "avx2.o", target, f"-I{native}")]
for unit in ("operators", *UNITS["cpu"]):
    objects.append(compile_unit(native / f"{unit}.c", out / f"{unit}.o", target, *flags))
zig(out, target, "-shared", "-s", "-o", str(library), *objects, "-ldl", "-lpthread", "-lm")
"""


def build_library(out: Path) -> None:
    """The operators' CPU library for x86-64 with AVX2's code alone; PressError where it is not built.

    zig's compiler is fetched from the package index, as the operators' own build fetches it.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise PressError("AVX2 is measured on Linux on x86-64.")
    build = tomllib.loads((OPERATORS / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    with tempfile.TemporaryDirectory() as scratch, atomic_output(out) as library:
        packages, objects = Path(scratch) / "packages", Path(scratch) / "objects"
        objects.mkdir()
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--target", str(packages)]
        pinned = [name for name in build if name.startswith(("ziglang", "hatchling"))]
        processor = Path(scratch) / "avx2.c"
        processor.write_text(PROCESSOR, encoding="utf-8")
        paths = {"PYTHONPATH": os.pathsep.join(map(str, (OPERATORS, packages))), "PYTHONDONTWRITEBYTECODE": "1"}
        compiler = [sys.executable, "-c", COMPILE, str(OPERATORS / "native"), str(processor), str(objects)]
        for command in ([*pip, *pinned], [*compiler, str(library)]):
            if subprocess.run(command, env={**os.environ, **paths}, check=False).returncode:
                raise PressError(f"{LIBRARY} for AVX2 was not built: see above.")


def with_library(model: Path, library: Path, out: Path) -> None:
    """``out`` is the model folder with another library, which the manifest beside it names; files are hard links."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(model, out, copy_function=os.link)
    own = out / library_for(platform.machine())
    own.unlink()
    shutil.copyfile(library, own)
    manifest = out.parent / "manifest.json"
    known = json.loads(manifest.read_text(encoding="utf-8"))["files"] if manifest.exists() else {}
    there = [out / name for name in LIBRARIES.values() if (out / name).exists()]
    known |= {f"{out.name}/{path.name}": {"sha256": sha256(path)} for path in there}
    write_json(manifest, {"files": known})


def with_backend(llama: Path, out: Path) -> None:
    """``out`` has llama.cpp's libraries, with the back end for AVX2 and no other."""
    if not (llama / BACKEND).is_file():
        raise PressError(f"{llama}: no {BACKEND} there: expected llama.cpp's libraries, as `make bench` fetches them.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for path in llama.iterdir():
        if path.name == BACKEND or not path.name.startswith("libggml-cpu-"):
            os.link(path, out / path.name)
