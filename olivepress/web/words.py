"""What JavaScript needs to know of a model's words: its chat template, its special tokens, where its answers end."""

import json
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def chat_template(folder: Path) -> str:
    """The template (Jinja) that GenAI reads in a model folder: a file of its own, or the one in tokenizer_config.json.

    PressError if there is none.
    """
    file = folder / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else _settings(folder).get("chat_template")
    if not isinstance(template, str):
        raise PressError(f"{file}: not there, and tokenizer_config.json has no chat_template. Write a text.template.")
    return template


def special_tokens(folder: Path) -> dict[str, str | None]:
    """The special tokens that a chat template may name, by the names that it has for them."""
    settings = _settings(folder)
    return {name: _token(settings.get(name)) for name in SPECIAL}


def end_tokens(config: dict[str, Any]) -> list[int]:
    """Ids of the tokens that end an answer, by a checked genai_config.json."""
    ends = config["model"]["eos_token_id"]
    return [ends] if isinstance(ends, int) else ends


def _settings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))


def _token(value: Any) -> str | None:
    """A token of tokenizer_config.json, which may be an object about it."""
    return value.get("content") if isinstance(value, dict) else value
