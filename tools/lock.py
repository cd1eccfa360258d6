"""Compile requirements.in into requirements.txt: every package in one version, every file of it by hash.

python -m tools.lock keeps what is locked and fits; --upgrade takes the newest of everything. The CUDA wheels that
PyPI's torch asks for go into requirements-torch.txt, apart: a build of torch for CPUs does without them. What targets
for WebGPU and a Ray cluster need over all that is compiled from requirements-webgpu.in and requirements-cluster.in.
"""

import re
import tempfile
from pathlib import Path

import click

from olivepress.core.outputs import sha256
from tools.install import CUDA_OF_TORCH, LOCK, ROOT, Uv, entries, pins

HEADER = "# Compiled from requirements.in by 'make lock'; do not edit.\n"
# pins alone, whose own requirements are in the lock
OVER = (ROOT / "requirements-webgpu.in", ROOT / "requirements-cluster.in")
CUDA = re.compile(r"(?!nvidia-ml-py==)(nvidia|cuda)-")
HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def compile_lock(uv: Uv, kept: str, source: Path = ROOT / "requirements.in", *options: str) -> str:
    """The text of a lock of ``source``, at the versions of ``kept`` where these fit."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "lock.txt"
        out.write_text(kept, encoding="utf-8")
        command = ["compile", source, "--python-version", "3.11", "--generate-hashes", *options]
        uv.run(*command, "--no-annotate", "--no-header", "-o", out, capture=True)
        return out.read_text(encoding="utf-8")


def builds_for_cpus(version: str, folders: list[str], before: str) -> set[str]:
    """Hashes of torch's builds for CPUs: of wheels in ``folders``, and those that the lock has had for this version."""
    wheels = [wheel for folder in folders for wheel in Path(folder).glob(f"torch-{version}+cpu-*.whl")]
    kept = HASH.findall(entries(before, "torch")) if pins(before).get("torch") == version else []
    return {f"sha256:{sha256(wheel)}" for wheel in wheels} | set(kept)


@click.command()
@click.option("--upgrade", is_flag=True, help="Take the newest of every package.")
def main(upgrade: bool) -> None:
    before = LOCK.read_text(encoding="utf-8")
    uv = Uv()
    folders = [uv.options[place + 1] for place, option in enumerate(uv.options) if option == "--find-links"]
    # the main index alone: it has every file of a version, a folder of this machine one
    for option in ("--find-links", "--index"):
        while option in uv.options:
            place = uv.options.index(option)
            del uv.options[place : place + 2]
    kept = "" if upgrade else before + CUDA_OF_TORCH.read_text(encoding="utf-8")
    lock = compile_lock(uv, kept)
    torch = entries(lock, "torch")
    hashes = sorted(builds_for_cpus(pins(lock)["torch"], folders, before) | set(HASH.findall(torch)))
    lines = [f"torch=={pins(lock)['torch']}", *(f"    --hash={one}" for one in hashes)]
    lock = lock.replace(torch, " \\\n".join(lines) + "\n")
    every = re.split(r"^(?=[\w.-]+==)", lock, flags=re.M)
    LOCK.write_text(HEADER + "".join(one for one in every if not CUDA.match(one)), encoding="utf-8")
    CUDA_OF_TORCH.write_text(HEADER + "".join(one for one in every if CUDA.match(one)), encoding="utf-8")
    for source in OVER:
        header = HEADER.replace("requirements.in", source.name)
        source.with_suffix(".txt").write_text(header + compile_lock(uv, "", source, "--no-deps"), encoding="utf-8")


if __name__ == "__main__":
    main()
