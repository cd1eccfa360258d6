"""A data set file: where the rows of an adapter are and how they are read, beyond what their file says by itself.

It stands beside the files, as ``dataset.yaml`` in the folder that an adapter's ``data`` names, so that DVC, which
watches that folder, sees every change of either; or alone, for a data set on the hub, which does not change at its
commit.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from olivepress.core.errors import PressError
from olivepress.core.params import Count, Line, Section
from olivepress.core.strict_yaml import describe, read_yaml
from olivepress.data.formats import Format
from olivepress.data.sources import Source

NAME = "dataset.yaml"
YAML = (".yaml", ".yml")
ROWS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
PACKED_AS = (".gz", ".zip", ".bz2", ".xz", ".zst", ".lz4")


class DataSet(Section):
    """The file's keys."""

    files: Annotated[list[Line], Field(min_length=1, max_length=1000)] | None = None
    hub: Line | None = None
    split: Line | None = None
    subset: Line | None = None
    format: Format | None = None
    columns: dict[Line, Line] = Field(default_factory=dict)
    rows: Count | None = None
    bad_rows: Literal["refuse", "drop"] = "refuse"


def source_from(
    data: Sequence[str],
    *,
    format: str | None = None,
    columns: Sequence[str] = (),
    split: str | None = None,
    subset: str | None = None,
    rows: int | None = None,
    bad_rows: str | None = None,
) -> Source:
    """What a command line names; its options go before what a data set file says. ``columns`` are OURS=THEIRS."""
    found = source_of(data[0]) if len(data) == 1 else Source(data)
    given = {"format": format, "split": split, "subset": subset, "rows": rows, "bad_rows": bad_rows}
    if columns:
        given["columns"] = dict(column.partition("=")[::2] for column in columns)
    return replace(found, **{name: value for name, value in given.items() if value is not None})


def source_of(data: str) -> Source:
    """What an adapter's ``data`` names: a file of rows, a folder of them, or a data set file."""
    path = Path(data)
    if data.startswith("hf://"):
        return Source([data])
    if not path.exists():
        raise PressError(f"{data}: not there. Expected a file or folder of rows (docs/data.md).")
    if path.is_dir():
        return _of_folder(path)
    return _of_file(path, path.parent) if path.suffix in YAML else Source([data])


def _of_folder(folder: Path) -> Source:
    if os.path.lexists(folder / NAME):
        return _of_file(folder / NAME, folder)
    return Source(_of_all(folder))


def _of_file(path: Path, folder: Path) -> Source:
    document = read_yaml(path)
    try:
        found = DataSet.model_validate(document.value)
    except ValidationError as error:
        document.raise_for([(_key(one["loc"]), _said(one)) for one in error.errors(include_url=False)])
        raise AssertionError("an error without a problem") from error
    if found.hub and found.files:
        document.raise_for([(("files",), "beside `hub:`. Expected one of the two.")])
    for key in ("split", "subset"):
        if getattr(found, key) and not found.hub:
            document.raise_for([((key,), "data on the hub have one, files have none. Take it out.")])
    if found.hub is not None:
        data = [found.hub]
    elif path.name != NAME:
        raise PressError(
            f"{path}: no `hub:`, and DVC would not see files change that it names. Call it {NAME}, put it beside the "
            "files, and let the adapter's data name their folder."
        )
    else:
        twice = next((n for n, name in enumerate(found.files or []) if name in found.files[:n]), None)
        if twice is not None:
            document.raise_for([(("files", twice), f"{found.files[twice]} is there twice. Keep one.")])
        data = [_inside(path, folder, name) for name in found.files] if found.files else _of_all(folder)
    return Source(data, found.format, found.columns, found.split or "train", found.subset, found.rows, found.bad_rows)


def _of_all(folder: Path) -> list[str]:
    files = [path.as_posix() for path in sorted(folder.iterdir()) if _shown(path) and path.suffix.lower() in ROWS]
    if not files:
        raise PressError(f"{folder}: holds no file of rows ({', '.join(ROWS)}).")
    # rows that nobody reads are not passed over in silence
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        deep = len(inner.parts) > 1 and path.suffix.lower() in ROWS and all(map(_shown, map(Path, inner.parts)))
        if deep or any(path.name.lower().endswith(f"{rows}{packed}") for rows in ROWS for packed in PACKED_AS):
            raise PressError(
                f"{folder}: {inner} is not read: {'it lies in a folder of its own' if deep else 'it is packed'}. Put "
                f"{'it beside the others' if deep else 'it there unpacked'}, or name the files that are meant: files: "
                f"[…] in {folder / NAME}."
            )
    return files


def _shown(path: Path) -> bool:
    return not path.name.startswith(".")


def _inside(path: Path, folder: Path, name: str) -> str:
    inner = Path(name)
    if inner.is_absolute() or ".." in inner.parts:
        raise PressError(
            f"{path}: files: {name}: expected files of this folder. DVC sees no others change; a link will do."
        )
    return (folder / inner).as_posix()


def _key(loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
    return tuple(part for part in loc if part != "[key]" and not str(part).startswith(("list[", "function-")))


def _said(error: object) -> str:
    if error["type"] == "extra_forbidden":
        return f"no such key. There are {', '.join(DataSet.model_fields)}."
    reason = error["ctx"]["error"] if error["type"] == "value_error" else error["msg"][:1].lower() + error["msg"][1:]
    return f"found {describe(error['input'])}: {reason}."
