"""The adapters that the server has now: those of the release, and those that an administrator adds and takes away."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from olivepress.core.artifact import ADAPTER_SUFFIX, MODEL
from olivepress.core.errors import PressError
from olivepress.core.outputs import sha256
from olivepress.runtime.integrity import MANIFEST, NAME, differences, read_manifest
from olivepress.serve.decoder import Adapter, Decoder
from olivepress.serve.errors import ApiError

MODEL_DATA = f"{MODEL}.data"


@dataclass(frozen=True)
class Source:
    """Where new adapters may come from: folders below ``folder``, for the model whose files have these digests."""

    folder: Path
    model: dict[str, str]


class Adapters:
    """By name. ``files``: those of the release. ``below``: where others may lie; None if none can be added."""

    def __init__(self, decoder: Decoder, files: dict[str, Path], below: Path | None) -> None:
        self._decoder = decoder
        self._lock = Lock()  # one at a time is added
        self._found = {
            name: decoder.load_adapter(name, path, path.stat().st_size, sha256(path)) for name, path in files.items()
        }
        self._below = None
        if below is not None:
            digests = {
                name: sha256(decoder.folder / name) for name in (MODEL, MODEL_DATA) if (decoder.folder / name).is_file()
            }
            self._below = Source(below.resolve(), digests)

    @property
    def names(self) -> list[str]:
        """Those there are."""
        return list(self._found)

    @property
    def all(self) -> list[Adapter]:
        """Those there are."""
        return list(self._found.values())

    def get(self, name: str) -> Adapter | None:
        """The one of that name, if there is one."""
        return self._found.get(name)

    def add(self, folder: str, name: str) -> Adapter:
        """Load ``name`` of the release in ``folder``, a path below the one that the server was started with.

        A release is manifest.json and adapters/, and model/ or not: its manifest has to name the model that is served,
        and every file in it has to be what the manifest says. ApiError otherwise.
        """
        if self._below is None:
            raise ApiError(
                403, "no adapters can be added: the server was started without --adapter-folder.", "disabled"
            )
        place = self._place(folder)
        with self._lock:
            if name in self._found:
                raise ApiError(409, f"there is an adapter {name!r}: take it away first.", "adapter_exists", "name")
            try:
                manifest = read_manifest(place / MANIFEST)
                self._check(place, manifest, name)
                file = place / "adapters" / f"{name}{ADAPTER_SUFFIX}"
                entry = manifest["files"][f"adapters/{file.name}"]
                adapter = self._decoder.load_adapter(name, file, entry["bytes"], entry["sha256"])
            except PressError as error:
                # what lies where is the server's business
                raise ApiError(400, error.message.replace(str(place), folder), "adapter_refused", "folder") from error
            self._found[name] = adapter
            return adapter

    def remove(self, name: str) -> Adapter:
        """Take an adapter away; what is being written with it goes on. ApiError if there is none."""
        with self._lock:
            adapter = self._found.pop(name, None)
        if adapter is None:
            raise ApiError(
                404, f"no adapter {name!r} (there: {', '.join(self._found) or 'none'}).", "adapter_not_found"
            )
        return adapter

    def _place(self, folder: str) -> Path:
        """``folder`` as a path; ApiError unless it is a folder below the one for adapters."""
        below = self._below.folder
        try:
            place = (below / folder).resolve()
            inside = place != below and place.is_relative_to(below) and place.is_dir()
        except (OSError, ValueError, RuntimeError):  # a name too long, with a null character, a loop of links
            inside = False
        if not inside:
            raise ApiError(400, f"no folder below the one for adapters: {folder!r}.", "no_such_folder", "folder")
        return place

    def _check(self, place: Path, manifest: dict[str, Any], name: str) -> None:
        """PressError unless the release has the adapter, is for this model, and is what its manifest says."""
        if not NAME.fullmatch(name) or name not in manifest["adapters"]:
            raise PressError(f"{place / MANIFEST}: no adapter {name!r} (there: {', '.join(manifest['adapters'])}).")
        files = manifest["files"]
        for file, digest in self._below.model.items():
            if files.get(f"model/{file}", {}).get("sha256") != digest:
                raise PressError(f"{place / MANIFEST}: is for another model: its {file} is not the one served here.")
        whole = (place / "model").is_dir()
        wanted = {path: entry for path, entry in files.items() if whole or path.startswith("adapters/")}
        if problems := differences(place, wanted, "full"):
            raise PressError(problems[0])
