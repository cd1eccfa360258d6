"""What a base's own model card says, and one for a base that came without."""

import re
from pathlib import Path
from typing import Any

from olivepress.core import limits
from olivepress.core.limits import TooMuch, apart


def declared_licence(folder: Path) -> str | None:
    """The ``license`` in the header of a model's README.md; None if there is none, or one by another name."""
    import yaml
    from huggingface_hub.repocard import metadata_load

    card = folder / "README.md"
    if not card.is_file():
        return None
    try:
        # its expression and YAML's merge keys may take for ever
        licence = apart(lambda: (metadata_load(card) or {}).get("license"), memory=limits.MEMORY)
    except (ValueError, AttributeError, RecursionError, TooMuch, yaml.YAMLError):
        return None  # a header that nobody can read declares nothing
    return licence if isinstance(licence, str) and licence != "other" else None


def write_card(folder: Path, metadata: dict[str, Any]) -> None:
    """A README.md with the licence that a GGUF file's ``metadata`` declare; none if they declare none."""
    licence = metadata.get("general.license")
    if isinstance(licence, str) and re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,99}", licence, re.ASCII):
        name = " ".join(str(metadata.get("general.name", "")).split())[:200] or "Base model"
        card = f"---\nlicense: {licence}\n---\n# {name}\n\nConverted from a GGUF file, to float16.\n"
        (folder / "README.md").write_text(card, encoding="utf-8")
