"""One zip file of a release: its files as the manifest has them, samples that run it, licence texts, and how to begin.

The same release gives the same bytes: names in order, no time, no owner. Weights and adapters hardly shrink and are
stored as they are; the rest is deflated.
"""

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, BinaryIO

from olivepress.apps.licences import licence_texts
from olivepress.apps.node import jinja, write_node
from olivepress.core.artifact import ADAPTER_SUFFIX
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.core.report import note, progress
from olivepress.core.template import unescape
from olivepress.runtime.integrity import MANIFEST, NAME

BLOCK = 2**20  # bytes
CARD = "README.md"
SAMPLES = ("python", "javascript", "cpp")
STORED = (".data", ADAPTER_SUFFIX)
TEMPLATE = "template.jinja"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file can say
MODE = 0o100644  # a file that its owner writes and all read
UNIX = 3  # zip's number of the system whose modes these are


def write_bundle(release: Path, manifest: dict[str, Any], out: Path) -> int:
    """Write the release in ``release``, which is what ``manifest`` says, as the zip file ``out``, whole or not at all.

    Returns its bytes. PressError for a release that a package cannot be made of, and for a file that has changed since.
    """
    name = bundle_name(manifest)
    template = unescape(manifest["params"]["text"]["template"])
    with tempfile.TemporaryDirectory(prefix="olivepress-") as scratch, as_file(files("olivepress.apps")) as samples:
        found = dict(_release(release, manifest)) | dict(_samples(samples, Path(scratch), release, manifest, template))
        _write(Path(scratch) / "README.md", _readme(manifest, found, template))
        found["README.md"] = Path(scratch) / "README.md"
        for place, text in licence_texts(release / "model").items():
            found[f"licences/{place}"] = _write(Path(scratch) / "licences" / place, text)
        expected = {f"release/{path}": entry["sha256"] for path, entry in manifest["files"].items()}
        with atomic_output(out) as partial:
            with zipfile.ZipFile(partial, "w") as archive:
                sums = {}
                for place in progress(sorted(found), "packing"):
                    sums[place] = _add(archive, f"{name}/{place}", found[place])
                    if sums[place] != expected.get(place, sums[place]):
                        raise PressError(f"{found[place]}: was changed while it was read. Get the release again.")
                lines = "".join(f"{digest}  {place}\n" for place, digest in sums.items())
                _add(archive, f"{name}/SHA256SUMS", _write(Path(scratch) / "SHA256SUMS", lines))
            return partial.stat().st_size


def bundle_name(manifest: dict[str, Any]) -> str:
    """NAME-VERSION-TARGET of a release, which is a file's name; PressError if it could be none."""
    name = f"{manifest['name']}-{manifest['version']}-{manifest['target']}"
    if not NAME.fullmatch(name):
        raise PressError(f"{MANIFEST}: {name[:80]!r} is no name of a file: letters, digits, '.', '_' and '-'.")
    return name


def _release(release: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Place in the package -> file, of what makes a release."""
    for path in (*manifest["files"], MANIFEST, *([CARD] if (release / CARD).is_file() else [])):
        yield f"release/{path}", release / path


def _samples(
    samples: Path, scratch: Path, release: Path, manifest: dict[str, Any], template: str
) -> Iterator[tuple[str, Path]]:
    """The same of the samples, and of what is written for this release."""
    for language in SAMPLES:
        made = scratch / language
        made.mkdir()
        if language == "javascript":
            try:
                write_node(release, manifest["adapters"], template, made)
            except PressError as error:
                note(f"Without the sample in JavaScript: {error.message}")
                continue
        for path in (*sorted((samples / language).iterdir()), *sorted(made.iterdir())):
            if path.is_file():
                yield f"apps/{language}/{path.name}", path
    if template != "chat":
        yield f"apps/{TEMPLATE}", _write(scratch / TEMPLATE, jinja(template))


def _write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _add(archive: zipfile.ZipFile, place: str, path: Path) -> str:
    """Put a file into the archive; returns the SHA-256 of what was read."""
    info = zipfile.ZipInfo(place, EPOCH)
    info.create_system, info.external_attr = UNIX, MODE << 16
    info.compress_type = zipfile.ZIP_STORED if place.endswith(STORED) else zipfile.ZIP_DEFLATED
    info.file_size = path.stat().st_size  # so that it is known whether 32 bits hold it
    digest = hashlib.sha256()
    with path.open("rb") as source, archive.open(info, "w") as file:
        for block in _blocks(source):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    while block := source.read(BLOCK):
        yield block


def _readme(manifest: dict[str, Any], found: dict[str, Path], template: str) -> str:
    """How to begin, for this very release."""
    adapter = next(iter(manifest["adapters"]), "")
    words = f"../../release '{adapter}' 'What is the best thing to see in Chicago?'"
    more = "" if template == "chat" else f" ../{TEMPLATE}"
    javascript = (
        f"""
```sh
cd apps/javascript
npm ci --ignore-scripts
node chat.mjs {words}
```
"""
        if "apps/javascript/chat.mjs" in found
        else "\nThis target has no sample in JavaScript, which runs portable graphs on the CPU.\n"
    )
    return f"""\
# {manifest["name"]} {manifest["version"]}, for {manifest["target"]}

`release/` is the release, with its card; `apps/` has programs that stream its answers, with an adapter
({", ".join(manifest["adapters"]) or "there is none"}) or, with "" in its place, without; `licences/` has the licence
texts of the model ({manifest["licence"]}) and of what runs it. `sha256sum --check SHA256SUMS` checks every file.

## Python

```sh
cd apps/python
pip install onnxruntime==1.26.0 onnxruntime-genai==0.14.1
python chat.py {words}{more}
```

## JavaScript
{javascript}
## C++

With ONNX Runtime and GenAI of the Python packages above, on Linux:

```sh
cd apps/cpp
site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
genai=$site/onnxruntime_genai
g++ -std=c++17 -O2 chat.cpp -o chat "$genai/libonnxruntime-genai.so" -Wl,-rpath,"$genai"
export ORT_LIB_PATH=$(echo "$site"/onnxruntime/capi/libonnxruntime.so.*)
./chat {words}{more}
```

The samples take a question as it is, control tokens of the model included, and answer up to 128 tokens, the likeliest
ones. What serves strangers refuses control tokens first, as `olivepress.load` and `olivepress serve` do.
"""
