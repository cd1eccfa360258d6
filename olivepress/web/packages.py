"""What the page has from npm: ONNX Runtime for the processor and for WebGPU, Hugging Face's tokenizers and chat
templates, and a Mersenne Twister.

npm fetches each package once (it keeps what it fetched) at the version and the hash that stand here. The files are
copied as they are; nothing is bundled or compiled.
"""

import base64
import gzip
import hashlib
import json
import shutil
import tarfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from olivepress.core.errors import PressError
from olivepress.core.process import run


@dataclass(frozen=True)
class Package:
    """One npm package: its hash as npm writes it, and which of its files the page has, under which names."""

    name: str
    version: str
    integrity: str
    files: dict[str, str]


# `npm view NAME@VERSION dist.integrity` shows a hash. Of ONNX Runtime's builds the one without WebGPU is the smallest.
# The next is jspi, which has WebGPU; it lacks operators of the CPU provider (GatherBlockQuantized), so a page has both.
PACKAGES = (
    Package(
        "onnxruntime-web",
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        {
            "dist/ort.wasm.min.mjs": "onnxruntime.js",
            "dist/ort-wasm-simd-threaded.mjs": "onnxruntime-wasm.js",
            "dist/ort-wasm-simd-threaded.wasm": "onnxruntime.wasm",
            "dist/ort.jspi.min.mjs": "onnxruntime-webgpu.js",
            "dist/ort-wasm-simd-threaded.jspi.mjs": "onnxruntime-webgpu-wasm.js",
            "dist/ort-wasm-simd-threaded.jspi.wasm": "onnxruntime-webgpu.wasm",
        },
    ),
    Package(
        "@huggingface/tokenizers",
        "0.2.0",
        "sha512-LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
        {"dist/tokenizers.min.mjs": "tokenizers.js", "LICENSE": "tokenizers.LICENSE"},
    ),
    Package(
        "@huggingface/jinja",
        "0.5.11",
        "sha512-YzEzwM5oQf4r0vs7ifWQ+yuVR1YkAHrjERQ+a8WRsStHHp4NRBg+NesjiFc+X2AFUpRvvrIeHDS1xFy9jY/IjQ==",
        {"dist/index.js": "jinja.js", "LICENSE": "jinja.LICENSE"},
    ),
    Package(
        "pure-rand",
        "8.4.2",
        "sha512-vvuOGgcuPJAirlHvuQw1TrOiw7ptaIXXmIbNuiNOY6lNGJJH49PQ1Kj4nd783nPdQhQdicgOjVI2yI/9BD6/Ng==",
        {"lib/esm/generator/mersenne.js": "mersenne.js", "LICENSE": "mersenne.LICENSE"},
    ),
)
# Kept gzipped, a quarter of their size, whatever a server does: the page unpacks the one that it needs.
SQUEEZED = ("onnxruntime.wasm", "onnxruntime-webgpu.wasm")
NPM = "npm is missing: install the packages nodejs and npm (apt-get install nodejs npm)."


def write_packages(folder: Path) -> None:
    """Write the packages' files into ``folder``, which is made; PressError if npm has them not, or has others."""
    folder.mkdir(parents=True)
    with TemporaryDirectory(prefix="npm-") as scratch:
        for package in PACKAGES:
            _unpack(package, _fetch(package, Path(scratch)), folder)
    for name in SQUEEZED:
        squeezed = folder / name
        # no time and no name in it: the same bytes every time
        folder.joinpath(f"{name}.gz").write_bytes(gzip.compress(squeezed.read_bytes(), 9, mtime=0))
        squeezed.unlink()
    # its package has no text of its licence; the Python package, of the same sources, has
    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        shutil.copyfile(str(files("onnxruntime") / name), folder / f"onnxruntime.{name}")


def _fetch(package: Package, scratch: Path) -> Path:
    """The package's archive, which has its hash."""
    wanted = f"{package.name}@{package.version}"
    command = ["npm", "pack", wanted, "--prefer-offline", "--ignore-scripts", "--json", "--pack-destination", scratch]
    if shutil.which("npm") is None:
        raise PressError(NPM)
    said = run(command, cwd=scratch, name=f"npm pack {wanted}").stdout
    archive = scratch / json.loads(said)[0]["filename"]
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.integrity:
        raise PressError(
            f"{wanted}: npm gave an archive with the hash {found}, expected {package.integrity}. Nothing is written: "
            "ask who runs the registry that npm is set to."
        )
    return archive


def _unpack(package: Package, archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as members:
        for inside, name in package.files.items():
            source = members.extractfile(f"package/{inside}")
            if source is None:
                raise PressError(f"{package.name}@{package.version}: {inside} is no file.")
            folder.joinpath(name).write_bytes(source.read())
