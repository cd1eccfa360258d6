"""What a model folder has for people: its licence, notices and model card."""

from pathlib import Path

LICENCES = ("LICENSE*", "NOTICE*")
DOCUMENTS = (*LICENCES, "README.md")


def licence_files(folder: Path) -> list[Path]:
    """The licence and notice files of a model folder."""
    return sorted(path for pattern in LICENCES for path in folder.glob(pattern) if path.is_file())
