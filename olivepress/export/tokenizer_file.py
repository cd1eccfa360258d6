"""The tokenizer's files as they ship: tokenizer.json without the blanks that it is indented with (half of it, where
every merge has four lines), and the chat template as ONNX Runtime GenAI has to read it."""

import json
import re
from pathlib import Path

from olivepress.core.template import with_date

TOKENIZER, TEMPLATE = "tokenizer.json", "chat_template.jinja"


def compact_tokenizer(folder: Path) -> None:
    """Rewrite tokenizer.json in ``folder``, if there is one, on one line; the same JSON for whoever reads it."""
    path = folder / TOKENIZER
    if path.is_file():
        value = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def portable_template(folder: Path, day: str | None) -> None:
    """Write the chat template in ``folder``, if there is one, so that GenAI renders it as transformers does.

    GenAI's engine has no options; transformers sets two, by which a line break behind a block and blanks before one at
    the beginning of a line are no part of the text (trim_blocks, lstrip_blocks): they are taken out. ``day``
    (YYYY-MM-DD), which the model was trained with, is written where the template would write today.
    """
    path = folder / TEMPLATE
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8").removesuffix("\n")  # as jinja does
    text = re.sub(r"^[ \t]+(?=\{[%#](?![-+]))", "", text, flags=re.M)
    text = re.sub(r"(?<![-+])([%#]\})\n", r"\1", text)
    path.write_text(with_date(text, day) if day else text, encoding="utf-8")
