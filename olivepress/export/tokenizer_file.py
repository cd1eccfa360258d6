"""The tokenizer's file without the blanks that it is indented with: half of it, where every merge has four lines."""

import json
from pathlib import Path

TOKENIZER = "tokenizer.json"


def compact_tokenizer(folder: Path) -> None:
    """Rewrite tokenizer.json in ``folder``, if there is one, on one line; the same JSON for whoever reads it."""
    path = folder / TOKENIZER
    if path.is_file():
        value = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
