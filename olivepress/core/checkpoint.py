"""Hugging Face checkpoint folders, looked at without loading them (and without torch)."""

import json
import math
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivepress.core.documents import licence_files
from olivepress.core.errors import PressError
from olivepress.core.json_file import load_json
from olivepress.core.tensor_file import Stored, read_header

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
NUMBERED = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors", re.ASCII)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a shard: safetensors dtype name (F16, I32, …), shape, and size in bytes."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dict; PressError if it is missing, broken or names no architecture."""
    path = folder / "config.json"
    if not path.is_file():
        raise PressError(f"{folder}: no config.json. Expected a Hugging Face checkpoint folder.")
    config = load_json(path)
    if not isinstance(config, dict) or not config.get("model_type") or not config.get("architectures"):
        raise PressError(f"{path}: 'model_type' and 'architectures' must both be set.")
    return config


def weight_map(folder: Path) -> dict[str, str] | None:
    """Tensor -> file by the index; None without one. PressError if it is broken or leads out of the folder."""
    index = folder / INDEX
    if not index.is_file():
        return None
    value = load_json(index)
    found = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise PressError(f"{index}: broken index (weight_map names a file for each tensor). Fetch the model again.")
    stray = sorted({name for name in found.values() if not _is_shard(name)})
    if stray:
        raise PressError(f"{index}: names {stray[0][:200]!r}, which is not in this folder. Fetch the model again.")
    return found


def _is_shard(name: str) -> bool:
    return Path(name).name == name and name.endswith(".safetensors") and len(name.encode("utf-8", "replace")) <= 255


def weight_names(names: Iterable[str]) -> set[str]:
    """Of the files in a listing, whose index was not read, those that transformers reads weights from."""
    found = [name for name in names if name.endswith(".safetensors") and "/" not in name]
    return {name for name in found if NUMBERED.fullmatch(name)} or set(found)


def shards(folder: Path) -> list[Path]:
    """The safetensors files that transformers reads, checked to exist; PressError if there are none, or pickles only.

    Those that the index names, or model.safetensors alone: what else lies there (a publisher's own
    consolidated.safetensors) holds the same weights once more.
    """
    index = weight_map(folder)
    if index is not None:
        names = sorted(set(index.values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise PressError(f"{folder / INDEX}: names {missing[0]}, which is not there. Fetch the model again.")
        return [folder / name for name in names]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    if files:
        raise PressError(
            f"{folder}: has {files[0]}, but neither {SINGLE} nor {INDEX}, by which its files are found. "
            "Fetch the model again."
        )
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise PressError(
            f"{folder}: has pickled weights only ({', '.join(pickles[:3])}). Loading a pickle can run any code, so "
            "only safetensors are read: convert it with its publisher's tools, or take a revision that has them."
        )
    raise PressError(f"{folder}: no *.safetensors file. Expected a checkpoint with safetensors weights.")


def stored(folder: Path) -> dict[str, tuple[Path, Stored]]:
    """Name -> file and place of all weights, from the shards' headers; PressError for a broken or truncated shard.

    No weight is read, and no library looks at a file before its header is known to be sound. A tensor lies in the
    file that the index names, once.
    """
    index = weight_map(folder)
    found: dict[str, tuple[Path, Stored]] = {}
    for shard in shards(folder):
        for name, place in read_header(shard).items():
            if name in found:
                raise PressError(f"{shard}: {name} is in {found[name][0].name}, too. Fetch the model again.")
            if index is not None and index.get(name, shard.name) != shard.name:
                raise PressError(f"{folder / INDEX}: {name} is in {shard.name}, not in {index[name]}. Fetch it again.")
            found[name] = (shard, place)
    lost = [name for name in index or {} if name not in found]
    if lost:
        raise PressError(f"{folder / INDEX}: {lost[0]} is not in {index[lost[0]]}. Fetch the model again.")
    return found


def tensors(folder: Path) -> dict[str, TensorInfo]:
    """Name -> TensorInfo of all weights; PressError as for `stored`."""
    return {
        name: TensorInfo(path.name, place.dtype, place.shape, place.nbytes)
        for name, (path, place) in stored(folder).items()
    }


def check(folder: Path) -> dict[str, TensorInfo]:
    """Everything that can be wrong with a checkpoint folder before it is loaded; returns its tensors."""
    read_config(folder)
    infos = tensors(folder)
    if not (folder / "tokenizer_config.json").is_file():
        raise PressError(f"{folder}: no tokenizer_config.json. The model needs its tokenizer beside it.")
    return infos


def parameters(folder: Path) -> int:
    """Number of weights of an unquantized checkpoint."""
    return sum(info.count for info in tensors(folder).values())


def carry_licence(source: Path, destination: Path) -> None:
    """Copy the licence and notice files from one model folder to the next."""
    for path in licence_files(source):
        shutil.copyfile(path, destination / path.name)


def weight_bytes(folder: Path) -> int:
    """Bytes of all weights, headers not counted."""
    return sum(info.nbytes for info in tensors(folder).values())


def forget_offline(folder: Path) -> None:
    """Unsay in tokenizer_config.json that the hub could not be asked: transformers notes it when it saves a tokenizer.

    Stages are offline, or not, for reasons of their own (core/offline.py); what they write is the same.
    """
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("local_files_only"):
        text = json.dumps({**config, "local_files_only": False}, indent=2, sort_keys=True, ensure_ascii=False)
        path.write_text(f"{text}\n", encoding="utf-8")  # as transformers writes it
