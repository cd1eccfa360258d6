"""What transformers makes of a checkpoint folder: configuration and tokenizer, or a message that says why not."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.errors import PressError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def load_config(folder: Path, *, trust_remote_code: bool) -> "PretrainedConfig":
    """The configuration of the causal language model in ``folder``.

    Raises PressError if this version of transformers does not know the architecture, if it is no causal language
    model, or if it needs its publisher's code and that is not trusted.
    """
    import transformers

    path = folder / "config.json"
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (ValueError, KeyError, TypeError, OSError) as error:
        if "trust_remote_code" in str(error):
            raise PressError(
                f"{path}: the model needs Python code of its publisher's. Read it; if you trust it, set "
                "remote_code.trust_remote_code."
            ) from error
        raise PressError(
            f"{path}: transformers {transformers.__version__} cannot read it: {first_sentence(error)} "
            "Choose a model that it supports."
        ) from error
    known = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if not known and "AutoModelForCausalLM" not in getattr(config, "auto_map", {}):
        raise PressError(f"{path}: {config.model_type!r} is no causal language model. Choose one that is.")
    return config


def load_tokenizer(folder: Path, *, trust_remote_code: bool) -> "PreTrainedTokenizerBase":
    """The tokenizer in ``folder``; PressError if its files are broken or missing."""
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # the tokenizers library raises plain Exception for a broken tokenizer.json
        raise PressError(
            f"{folder}: its tokenizer cannot be loaded: {first_sentence(error)} Fetch the model again."
        ) from error


def first_sentence(error: Exception) -> str:
    """The first sentence of an upstream message, which may go on for a page."""
    return re.split(r"(?<=\.)\s|\n", str(error).strip())[0][:300] or type(error).__name__
