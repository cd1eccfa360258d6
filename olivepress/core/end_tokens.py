"""The tokens that end an answer: what configuration, generation configuration and chat template name, together.

A configuration may name one token (the end of a text) while the template closes every turn with another. A runtime that
knows the first alone answers on, into turns that nobody took.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = "ANSWER"


def end_tokens(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Ids of the tokens that end an answer of the model in ``folder``; PressError if nothing names one.

    First those of generation_config.json, which runtimes ask first, then config.json's, the tokenizer's own, the
    template's.
    """
    found: list[int] = []
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        named: Any = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
        ids = named if isinstance(named, list) else [named]
        found += [each for each in ids if type(each) is int]
    found += [each for each in (tokenizer.eos_token_id, turn_end(tokenizer)) if each is not None]
    if not found:
        raise PressError(
            f"{folder}: nothing says which token ends an answer: no eos_token_id in config.json, "
            "generation_config.json or the tokenizer, and the chat template writes none behind an answer."
        )
    return list(dict.fromkeys(found))


def turn_end(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The control token that the chat template writes right behind an answer; None if it writes none."""
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "QUESTION"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # a template can raise whatever it likes; prepare refuses it where it is used
        return None
    behind = tokenizer.encode(text.rpartition(ANSWER)[2].lstrip(), add_special_tokens=False)
    return behind[0] if behind and behind[0] in control_ids(tokenizer) else None


def control_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    """Ids of the control tokens."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)
