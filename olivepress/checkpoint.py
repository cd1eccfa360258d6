"""Hugging Face checkpoint folders, looked at without loading them (and without torch)."""

import json
import math
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivepress.errors import PressError

INDEX = "model.safetensors.index.json"
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
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PressError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(config, dict) or not config.get("model_type") or not config.get("architectures"):
        raise PressError(f"{path}: 'model_type' and 'architectures' must both be set.")
    return config


def shards(folder: Path) -> list[Path]:
    """The safetensors files, checked to exist; PressError if there are none, or pickles only."""
    index = folder / INDEX
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            stray = [name for name in names if Path(name).name != name]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise PressError(f"{index}: broken index ({error!r}). Fetch the model again.") from error
        if stray:
            raise PressError(f"{index}: names {stray[0]!r}, which is not in this folder. Fetch the model again.")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise PressError(f"{index}: names {missing[0]}, which is not there. Fetch the model again.")
        return [folder / name for name in names]
    found = sorted(folder.glob("*.safetensors"))
    if found:
        return found
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise PressError(
            f"{folder}: has pickled weights only ({', '.join(pickles[:3])}). Loading a pickle can run any code, so "
            "only safetensors are read: convert it with its publisher's tools, or take a revision that has them."
        )
    raise PressError(f"{folder}: no *.safetensors file. Expected a checkpoint with safetensors weights.")


def tensors(folder: Path) -> dict[str, TensorInfo]:
    """Name -> TensorInfo of all weights, from the shards' headers; PressError for a broken or truncated shard.

    The layout (8-byte little-endian header length, JSON header, data) is that of the safetensors format.
    """
    found: dict[str, TensorInfo] = {}
    for shard in shards(folder):
        size = shard.stat().st_size
        with shard.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
            try:
                header = json.loads(file.read(length)) if length < size else None
                header.pop("__metadata__", None)
                entries = {name: _entry(shard, **entry) for name, entry in header.items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise PressError(
                    f"{shard}: no readable safetensors header ({size} bytes). Fetch the model again."
                ) from error
        expected = 8 + length + max((end for _, end in entries.values()), default=0)
        if size != expected:
            raise PressError(
                f"{shard}: truncated: {size} bytes, its header promises {expected}. Fetch the model again."
            )
        found.update({name: info for name, (info, _) in entries.items()})
    return found


def _entry(shard: Path, dtype: str, shape: list[int], data_offsets: list[int]) -> tuple[TensorInfo, int]:
    """One header entry, and where its data end; TypeError or ValueError for any other shape of entry."""
    begin, end = map(int, data_offsets)
    return TensorInfo(shard.name, dtype, tuple(map(int, shape)), end - begin), end


def check(folder: Path) -> dict[str, TensorInfo]:
    """Everything that can be wrong with a checkpoint folder before it is loaded; returns its tensors."""
    read_config(folder)
    found = tensors(folder)
    if not (folder / "tokenizer_config.json").is_file():
        raise PressError(f"{folder}: no tokenizer_config.json. The model needs its tokenizer beside it.")
    return found


def parameters(folder: Path) -> int:
    """Number of weights of an unquantized checkpoint."""
    return sum(info.count for info in tensors(folder).values())


def carry_licence(source: Path, destination: Path) -> None:
    """Copy the licence and notice files from one model folder to the next."""
    for pattern in ("LICENSE*", "NOTICE*"):
        for path in sorted(source.glob(pattern)):
            shutil.copyfile(path, destination / path.name)


def weight_bytes(folder: Path) -> int:
    """Bytes of all weights, headers not counted."""
    return sum(info.nbytes for info in tensors(folder).values())
