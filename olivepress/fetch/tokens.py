"""A base's tokenizer, held to its embedding, and the tokens that end an answer, gathered from all who name them.

Each reader looks at one place: transformers at generation_config.json, the GenAI builder at that and config.json, a
chat template at none of them. A model that has learnt to end a turn by a token that its reader does not know runs on.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core import control, limits, report
from olivepress.core.errors import PressError, first_sentence
from olivepress.core.json_file import load_object
from olivepress.core.limits import TooMuch, apart
from olivepress.core.offline import hub_offline
from olivepress.core.tokenizer import load_tokenizer
from olivepress.fetch.config_values import check_generation
from olivepress.fetch.patterns import try_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERATION = "generation_config.json"
# What fetch asks the template to render: what is said cannot be a part of it.
ASKED, ANSWERED = "olivepress asks", "olivepress answers"


def check_tokens(folder: Path, config: dict[str, Any], *, trust_remote_code: bool) -> None:
    """PressError if the tokenizer in ``folder`` has ids that the model has no row for, or if nothing ends an answer.

    generation_config.json is written anew if it leaves out a token that config.json or the template ends answers by.
    """
    if trust_remote_code and "auto_map" in load_object(folder / "tokenizer_config.json"):
        report.note("The tokenizer is the publisher's own code: its tokens are not compared with the embedding.")
        return
    with hub_offline():
        try_tokenizer(folder)
        tokenizer = load_tokenizer(folder, trust_remote_code=False)
    size = _vocabulary(config)
    ids = tokenizer.get_vocab()
    last = max(ids, key=ids.__getitem__, default=None)
    if last is None:
        raise PressError(f"{folder}: its tokenizer has no tokens. Fetch the model again.")
    if size is not None and ids[last] >= size:
        raise PressError(
            f"{folder}: its tokenizer has the token {last[:80]!r} with id {ids[last]:,}, but the model has embeddings "
            f"for {size:,} tokens (vocab_size). Choose a model whose tokenizer is its own."
        )
    if getattr(tokenizer, "split_special_tokens", False):
        raise PressError(
            f"{folder / 'tokenizer_config.json'}: split_special_tokens is set: control tokens would be read as plain "
            "text, and by ONNX Runtime GenAI as what they are. Take it out."
        )
    written = getattr(tokenizer, "_tokenizer", None)
    if written is not None and (dropout := getattr(written.model, "dropout", None)):
        raise PressError(
            f"{folder / 'tokenizer.json'}: model.dropout is {dropout}: it would split a text otherwise each time. Set "
            "it to null."
        )
    _gather_ends(folder, config, tokenizer, size)


def _vocabulary(config: dict[str, Any]) -> int | None:
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and isinstance(part.get("vocab_size"), int):
            return part["vocab_size"]
    return None


def _gather_ends(folder: Path, config: dict[str, Any], tokenizer: "PreTrainedTokenizerBase", size: int | None) -> None:
    path = folder / GENERATION
    generation = _generation(path) if path.is_file() else {}
    said = _ids(generation.get("eos_token_id"))
    wrong = [one for one in said if type(one) is not int or one < 0 or (size is not None and one >= size)]
    if wrong:
        raise PressError(f"{path}: eos_token_id is {str(wrong[0])[:40]!r}, expected ids of tokens below {size}.")
    for key in ("bos_token_id", "pad_token_id"):
        if size is not None and any(one >= size for one in _ids(generation.get(key))):
            raise PressError(f"{path}: {key} is {generation[key]}, expected an id below {size}. Fetch the model again.")
    configured = _ids(config.get("eos_token_id"))
    others = [*configured, _ended_by(folder, tokenizer)]
    if not said and not configured:
        others.append(tokenizer.eos_token_id)
    ends = list(dict.fromkeys([*said, *(one for one in others if one is not None)]))
    if not ends:
        raise PressError(
            f"{folder}: nothing says which token ends an answer: no eos_token_id in config.json or {GENERATION}, no "
            "eos_token in tokenizer_config.json, and no token of the chat template's behind an answer: answers would "
            "never end. Set eos_token_id in config.json, as the model's publisher does."
        )
    if ends == (said or configured):
        return
    added = ", ".join(repr(tokenizer.convert_ids_to_tokens(one)) for one in ends if one not in said)
    report.note(f"{GENERATION}: {added} ends an answer, too, as config.json, the tokenizer or the chat template says.")
    settled = {**generation, "eos_token_id": ends[0] if len(ends) == 1 else ends}
    path.write_text(f"{json.dumps(settled, indent=2, ensure_ascii=False)}\n", encoding="utf-8")


def _generation(path: Path) -> dict[str, Any]:
    from transformers import GenerationConfig

    settings = load_object(path)
    check_generation(path, settings)
    try:
        GenerationConfig.from_dict(settings)
    except Exception as error:  # it validates some values, and fails on others
        raise PressError(
            f"{path}: transformers cannot read it: {first_sentence(error)} Fetch the model again."
        ) from error
    return settings


def _ids(value: Any) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    return [one for one in values if one is not None and one != -1]


def _ended_by(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The id of the special token that the chat template writes behind an answer; None if it writes none.

    A template that cannot be rendered is prepare's to refuse, which may not need it.
    """
    if not tokenizer.chat_template:
        return None
    talk = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
    try:
        text = apart(lambda: tokenizer.apply_chat_template(talk, tokenize=False), memory=limits.MEMORY)
    except TooMuch as error:
        report.note(f"{folder.name}: the model's chat template {error}: prepare will not take it.")
        return None
    except Exception:  # whatever a template can do: prepare says it, with the row
        return None
    special = control.pattern_of(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    place = text.rfind(ANSWERED)
    found = special.search(text, place + len(ANSWERED)) if special and place >= 0 else None
    return tokenizer.convert_tokens_to_ids(found[0]) if found else None
