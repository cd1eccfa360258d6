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
from olivepress.apps.readme import TEMPLATE, readme
from olivepress.core.artifact import ADAPTER_SUFFIX
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.core.report import note, progress
from olivepress.core.template import unescape
from olivepress.runtime.integrity import MANIFEST, NAME
from olivepress.runtime.trust import providers, read_genai_config

BLOCK = 2**20  # bytes
CARD = "README.md"
NODE = "javascript"
SAMPLES = ("python", NODE, "cpp")
STORED = (".data", ADAPTER_SUFFIX)
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
        for_cuda = "cuda" in map(str.lower, providers(read_genai_config(release / "model")))
        text = readme(manifest, for_cuda=for_cuda, javascript=f"apps/{NODE}/chat.mjs" in found, chat=template == "chat")
        found["README.md"] = _write(Path(scratch) / "README.md", text)
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
        if language == NODE:
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
