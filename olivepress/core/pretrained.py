"""What transformers makes of a checkpoint's configuration, or a message that says why not."""

from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError, first_sentence
from olivepress.core.lacks import lack

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def load_config(folder: Path, *, trust_remote_code: bool) -> "PretrainedConfig":
    """The configuration of the causal language model in ``folder``.

    Raises PressError if this version of transformers does not know the architecture, if it is no causal language
    model, or if it needs its publisher's code and that is not trusted.
    """
    import transformers

    path = folder / "config.json"
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # each architecture validates its values in its own way
        if lack(error):  # the machine lacks it, not the model
            raise
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
