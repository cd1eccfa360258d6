"""Calibration text for the quantizers, as token blocks of equal length."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core import limits
from olivepress.core.errors import PressError, first_sentence
from olivepress.core.jsonl import read_objects, text_field
from olivepress.core.limits import TooMuch, each_apart, limited

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SECONDS = 60  # that a chat template may take for all rows; it takes below one


def calibration_blocks(
    path: Path, tokenizer: "PreTrainedTokenizerBase", *, samples: int, sequence_length: int, seed: int
) -> list[list[int]]:
    """``samples`` lists of exactly ``sequence_length`` token ids, from the file's rows in seeded order.

    Rows are ``{"text": …}`` or ``{"prompt": …, "response": …}``; the latter are written as the model's chat template
    writes them, since a model that is talked to is best measured while it talks. They are shuffled, encoded, joined by
    an end-of-sequence token and cut, as AutoAWQ does with its own data, except that no row is dropped for being long.
    Raises PressError if the file holds too few tokens.
    """
    wanted = samples * sequence_length
    where, doing, count = str(path), "chat template", 0
    try:
        # template and tokenizer are the model's: a process that can be killed runs them
        for said in each_apart(lambda: _tokens(path, tokenizer, wanted, seed), whole=SECONDS):
            if isinstance(said, list):
                stream = said
            elif isinstance(said, int):
                doing, count = "tokenizer", said
            else:
                where = said
    except TooMuch as error:
        if doing == "tokenizer":
            raise PressError(
                f"{path}: the model's tokenizer {error} with one of the rows. Choose other rows."
            ) from error
        raise PressError(f'{where}: the model\'s chat template {error}. Give rows of {{"text": …}}.') from error
    if len(stream) >= wanted:
        return [stream[i : i + sequence_length] for i in range(0, wanted, sequence_length)]
    raise PressError(
        f"{path}: too little calibration data: {len(stream):,} tokens in {count:,} rows, but "
        f"{samples} samples of {sequence_length} need {wanted:,}. Add text, or lower quantize.samples to "
        f"{len(stream) // sequence_length} or quantize.sequence_length."
    )


def _tokens(
    path: Path, tokenizer: "PreTrainedTokenizerBase", wanted: int, seed: int
) -> Iterator[str | int | list[int]]:
    """Each row's place before it is rendered, their number before each is encoded, and ``wanted`` tokens, or all."""
    texts = []
    for where, value in read_objects(path):
        yield where
        texts.append(_text(where, value, tokenizer))
    random.Random(seed).shuffle(texts)
    stream: list[int] = []
    for text in texts:
        yield len(texts)
        stream += tokenizer.encode(text, add_special_tokens=False)
        if tokenizer.eos_token_id is not None:
            stream.append(tokenizer.eos_token_id)
        if len(stream) >= wanted:
            break
    yield stream


def _text(where: str, value: dict[str, Any], tokenizer: "PreTrainedTokenizerBase") -> str:
    """A row's text; PressError names one that the chat template, somebody else's program, cannot render."""
    if "text" in value:
        return text_field(where, value, "text")
    turns = [text_field(where, value, key) for key in ("prompt", "response")]
    try:
        with limited(memory=limits.MEMORY):
            text = _as_talk(tokenizer, *turns)
    except TooMuch as error:
        raise PressError(f'{where}: the model\'s chat template {error}. Give rows of {{"text": …}}.') from error
    except Exception as error:  # whatever a template can do to a row
        raise PressError(
            f"{where}: the model's chat template cannot render the row: {first_sentence(error)} "
            'Give rows of {"text": …}.'
        ) from error
    if len(text) > 16 * sum(map(len, turns)) + 100_000:
        raise PressError(f"{where}: the model's chat template writes {len(text):,} characters for the row.")
    return text


def _as_talk(tokenizer: "PreTrainedTokenizerBase", prompt: str, response: str) -> str:
    if not tokenizer.chat_template:
        return f"{prompt}\n{response}"
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return tokenizer.apply_chat_template(turns, tokenize=False)
