"""The checkpoint's tokenizer as OpenVINO's graphs, held to transformers' token ids."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.end_tokens import control_ids
from olivepress.core.errors import PressError
from olivepress.core.report import note
from olivepress.export.tokenizer_check import SELDOM, TALKS, TEXTS

if TYPE_CHECKING:
    import openvino_genai
    from transformers import PreTrainedTokenizerBase

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
MOST = 200  # control tokens that are tried


def export_tokenizer(checkpoint: Path, tokenizer: "PreTrainedTokenizerBase", out: Path) -> None:
    """Write openvino_tokenizer.xml and openvino_detokenizer.xml, beside the tokenizer's own files."""
    import openvino
    from openvino_tokenizers import convert_tokenizer

    try:
        graphs = convert_tokenizer(tokenizer, with_detokenizer=True)
    except Exception as error:  # of any kind: the converter fails on what it does not know
        raise PressError(
            f"{checkpoint}: openvino_tokenizers cannot convert its tokenizer: {error}. Choose a model with a "
            "byte-level BPE or SentencePiece tokenizer."
        ) from error
    for name, graph in zip(("tokenizer", "detokenizer"), graphs, strict=True):
        openvino.save_model(graph, out / f"openvino_{name}.xml")
    for name in FILES:
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, out / name)


def check_tokenizer(folder: Path, tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], *, chat: bool) -> int:
    """How many texts OpenVINO GenAI reads as transformers does; PressError for the first that it does not.

    The texts are those that every target's tokenizer is tried with, every control token, and ``texts``. ``chat``: the
    chat template is compared, too. A few seldom signs may be read otherwise, which is noted.
    """
    import openvino_genai

    runtime = openvino_genai.Tokenizer(str(folder))
    control = [tokenizer.convert_ids_to_tokens(number) for number in sorted(control_ids(tokenizer))[:MOST]]
    every = [*TEXTS, *(f"{token}\nword{token}word {token}" for token in control), *texts]
    for text in (*every, *SELDOM):
        ids, expected = encode(runtime, text), tokenizer.encode(text, add_special_tokens=False, verbose=False)
        if ids != expected and text in SELDOM:
            note(f"tokenizer: OpenVINO reads {text!r} otherwise than transformers.")
        elif ids != expected:
            place = next((n for n, pair in enumerate(zip(ids, expected, strict=False)) if pair[0] != pair[1]), 0)
            raise PressError(
                f"{folder}: OpenVINO reads {text[:120]!r} otherwise than transformers, from token {place} on: "
                f"{ids[place : place + 6]} where training has {expected[place : place + 6]}. Choose a model with a "
                "byte-level BPE tokenizer."
            )
    if chat and tokenizer.chat_template:
        _compare_rendering(folder, runtime, tokenizer)
    return len(every)


def encode(runtime: "openvino_genai.Tokenizer", text: str) -> list[int]:
    """Token ids of a text as it stands: nothing is put before it or behind."""
    return runtime.encode(text, add_special_tokens=False).input_ids.data[0].tolist()


def _compare_rendering(folder: Path, runtime: "openvino_genai.Tokenizer", tokenizer: "PreTrainedTokenizerBase") -> None:
    """PressError for a conversation that the two chat templates write otherwise; one that both refuse is none."""
    for talk in TALKS:
        try:
            expected = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        except Exception:  # the template's own refusal, of a system prompt say
            continue
        try:
            found = runtime.apply_chat_template(talk, add_generation_prompt=True)
        except RuntimeError as error:
            raise PressError(f"{folder}: OpenVINO cannot render {talk} by the chat template: {error}") from error
        if found != expected:
            raise PressError(
                f"{folder}: OpenVINO renders {talk} as {found[:200]!r}, and transformers as {expected[:200]!r}. Train "
                "with a text template (text.template), which both write alike."
            )
