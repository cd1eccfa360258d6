"""The CPU operators' loops as a C program, for processors that are not here: compiled by zig, run by qemu.

And a CUDA kernel, thread by thread, for cards that are not here.
"""

import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPERATORS = ROOT / "operators"
# Run in the build's own environment: the objects of operators/hatch_build.py, and the program that calls them.
COMPILE = """
import sys
from pathlib import Path
from hatch_build import GLIBC, compile_loops, compile_unit, zig

architecture, native, program, out = sys.argv[1], *map(Path, sys.argv[2:])
target = f"{architecture}-linux-gnu.{GLIBC}"
objects = compile_loops(native, out, architecture, target)
objects.append(compile_unit(program, out / "program.o", target, f"-I{native}"))
zig(out, target, "-o", str(out / "kernels"), *objects, "-lm")
"""
# What a processor is taken for, by its architecture and qemu's name of it. qemu has no AVX-512.
PROCESSORS = {
    ("aarch64", "cortex-a53"): "ARMv8",
    ("aarch64", "cortex-a76"): "dot product",
    ("aarch64", "max"): "dot product",
    ("x86_64", "qemu64"): "x86-64",
    ("x86_64", "max"): "AVX2",
}
# Debian's packages of its C library, for a machine of the other architecture.
LIBC = {"aarch64": "libc6-arm64-cross", "x86_64": "libc6-amd64-cross"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compilers(tmp_path_factory):
    """A folder with the build requirements of operators/ that compile C."""
    folder = tmp_path_factory.mktemp("compilers") / "site-packages"
    build = tomllib.loads((OPERATORS / "pyproject.toml").read_text())["build-system"]["requires"]
    pinned = [requirement for requirement in build if requirement.startswith(("ziglang", "hatchling"))]
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--target", folder]
    subprocess.run([*pip, *pinned], check=True)
    return folder


def compile_by(compilers: Path, script: str, *arguments: str | Path) -> None:
    """Run a script in the environment of operators/hatch_build.py."""
    environment = {**os.environ, "PYTHONPATH": f"{OPERATORS}:{compilers}", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, env=environment)


@pytest.fixture(scope="module")
def kernels(compilers, tmp_path_factory):
    """tests/native/kernels.c with all variants of an architecture, as a function of its name: a program."""
    made: dict[str, Path] = {}

    def build(architecture: str) -> Path:
        if architecture not in made:
            out = tmp_path_factory.mktemp(architecture)
            compile_by(compilers, COMPILE, architecture, OPERATORS / "native", ROOT / "tests/native/kernels.c", out)
            made[architecture] = out / "kernels"
        return made[architecture]

    return build


def run(command: list[str | Path]) -> str:
    """What the program took the processor for; it compares its results with double precision itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    name, *errors = done.stdout.splitlines()
    assert [line.split()[0] for line in errors] == ["product", "add", "gate", "norm", "attention"]
    return name


@pytest.mark.parametrize(("architecture", "processor"), PROCESSORS)
def test_the_loops_compute_what_they_say(kernels, architecture, processor):
    """Products of 4 and 8 bits in blocks of 32, 64 and 128, LoRA of ranks 0 to 17, attention: 1e-6 of their parts'
    magnitudes."""
    emulator = shutil.which(f"qemu-{architecture}")
    root = Path("/") if architecture == platform.machine() else Path(f"/usr/{architecture}-linux-gnu")
    if not emulator or not list(root.glob("lib*/ld-linux*.so.*")):
        pytest.skip(f"no emulator of {architecture}, or no C library: apt-get install qemu-user {LIBC[architecture]}")
    found = run([emulator, "-L", root, "-cpu", processor, kernels(architecture)])
    assert found == PROCESSORS[architecture, processor]


def test_they_do_on_this_processor(kernels):
    assert run([kernels(platform.machine())])


COMPILE_CUDA = """
import platform
import sys
from pathlib import Path
from hatch_build import GLIBC, zig

native, program, out = map(Path, sys.argv[1:])
target, made = f"{platform.machine()}-linux-gnu.{GLIBC}", str(out / "program")
flags = ["-x", "c++", "-std=c++20", "-O2", f"-I{native}", "-Wno-ignored-attributes"]
zig(out, target, *flags, "-o", made, str(program), "-lc++", "-lpthread")
"""


@pytest.fixture(scope="module")
def attention_on_cpu(compilers, tmp_path_factory):
    """A function: the program made of tests/native/attention_on_cpu.cpp and these native sources."""

    def build(native: Path) -> Path:
        out = tmp_path_factory.mktemp("cuda")
        compile_by(compilers, COMPILE_CUDA, native, ROOT / "tests/native/attention_on_cpu.cpp", out)
        return out / "program"

    return build


def test_attention_on_cuda_computes_what_it_says(attention_on_cpu):
    """128 threads of the processor are a block; one token and several, rows, windows, pasts in place and apart."""
    done = subprocess.run([attention_on_cpu(OPERATORS / "native")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 9


READ = "  wait_for_what_came_before();\n  const int length = a.lengths[row] + 1;\n"  # of a row's length, for one token


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("right", "wrong", "case"),
    [
        ("key <= position", "key < position + 2", "rows, a window"),
        (READ, "\n".join(reversed(READ.split("\n")[:2])) + "\n", "one, 64, rows"),
    ],
    ids=["a key too many", "read before the wait"],
)
def test_that_program_sees_a_kernel_that_is_wrong(attention_on_cpu, tmp_path, right, wrong, case):
    source = (OPERATORS / "native/attention.cu").read_text()
    assert right in source
    (tmp_path / "attention.cu").write_text(source.replace(right, wrong))
    shutil.copy(OPERATORS / "native/kernels.cuh", tmp_path)
    done = subprocess.run([attention_on_cpu(tmp_path), case], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
