"""Calibration text for the quantizers, as token blocks of equal length."""

import random
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.dataset import read_objects, text_field
from olivepress.errors import PressError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def calibration_blocks(
    path: Path, tokenizer: "PreTrainedTokenizerBase", *, samples: int, sequence_length: int, seed: int
) -> list[list[int]]:
    """``samples`` lists of exactly ``sequence_length`` token ids, from the file's rows in seeded order.

    Rows are ``{"text": …}`` or ``{"prompt": …, "response": …}``. They are shuffled, encoded, joined by an
    end-of-sequence token and cut, as AutoAWQ does with its own data, except that no row is dropped for being long.
    Raises PressError if the file holds too few tokens.
    """
    texts = []
    for place, value in read_objects(path):
        keys = ("text",) if "text" in value else ("prompt", "response")
        texts.append("\n".join(text_field(place, value, key) for key in keys))
    random.Random(seed).shuffle(texts)

    wanted = samples * sequence_length
    stream: list[int] = []
    for text in texts:
        stream += tokenizer.encode(text, add_special_tokens=False)
        if tokenizer.eos_token_id is not None:
            stream.append(tokenizer.eos_token_id)
        if len(stream) >= wanted:
            return [stream[i : i + sequence_length] for i in range(0, wanted, sequence_length)]
    raise PressError(
        f"{path}: too little calibration data: {len(stream):,} tokens in {len(texts)} rows, but "
        f"{samples} samples of {sequence_length} need {wanted:,}. Add text, or lower quantize.samples to "
        f"{len(stream) // sequence_length} or quantize.sequence_length."
    )
