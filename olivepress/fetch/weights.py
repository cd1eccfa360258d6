"""A base's weights, held to what its configuration describes: names, shapes, dtypes, finite values.

transformers gives a tensor that a file lacks random values, and passes over those that it has no name for: both warn,
and the export then computes something else. On the meta device it maps names as it will later, and reads no weight.
"""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core import checkpoint, report
from olivepress.core.errors import PressError, first_sentence
from olivepress.core.json_file import load_object
from olivepress.core.lacks import lack
from olivepress.core.limits import TooMuch, limited
from olivepress.core.offline import hub_offline
from olivepress.core.tensor_file import FLOATS, Stored, is_finite, same_values

if TYPE_CHECKING:
    from transformers import PreTrainedModel

READERS = min(8, os.cpu_count() or 1)  # of weights at once, each with pieces of 16 MiB in memory
SECONDS = 120  # to make the model without weights; the largest here takes three
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
QUANTIZED = ("quantization_config", "compression_config")


def check_weights(folder: Path, config: dict[str, Any], *, trust_remote_code: bool) -> None:
    """PressError names the first tensor of the checkpoint in ``folder`` that is not as ``config`` says.

    Every byte of the weights is read once, in pieces, none of them kept.
    """
    path = folder / "config.json"
    found = checkpoint.stored(folder)
    _refuse_quantized(path, config)
    index = folder / checkpoint.INDEX
    if index.is_file() and not isinstance(load_object(index).get("metadata"), dict):
        raise PressError(f"{index}: has no 'metadata' (an object), without which transformers does not read it.")
    for key in LAYERS:
        if isinstance(config.get(key), int) and config[key] > len(found):
            raise PressError(f"{path}: {key} is {config[key]}, but the weights are {len(found)} tensors.")
    if trust_remote_code and "auto_map" in config:
        report.note(f"{path.name}: the model's own code says what its tensors are: they are not compared with it.")
        skipped: list[str] = []
    else:
        skipped = _compare(folder, found)
    ignored = re.compile("|".join(skipped)) if skipped else None
    read = {name: where for name, where in found.items() if not (ignored and ignored.search(name))}
    for name, (file, place) in read.items():
        if place.dtype not in FLOATS:
            raise PressError(
                f"{file}: {name} is {place.dtype}, expected {', '.join(FLOATS)}, since {path.name} has no "
                "quantization_config. Take the model that was not quantized."
            )
    with ThreadPoolExecutor(READERS) as pool:
        looked = zip(read, pool.map(lambda where: is_finite(*where), read.values()), strict=True)
        for name, finite in report.progress(looked, "tensors", len(read)):
            if not finite:
                pool.shutdown(wait=False, cancel_futures=True)
                raise PressError(f"{read[name][0]}: {name} has a value that is NaN or infinite. Choose another model.")


def _refuse_quantized(path: Path, config: dict[str, Any]) -> None:
    """PressError for a base that is quantized already, also where only a part of it is (``text_config``)."""
    for where, value in [("", config), *((f"{key}.", value) for key, value in config.items())]:
        for key in QUANTIZED if isinstance(value, dict) else ():
            if value.get(key):
                method = value[key].get("quant_method") if isinstance(value[key], dict) else None
                raise PressError(
                    f"{path}: {where}{key} is set ({str(method)[:40]}): the model is quantized already, and quantizing "
                    "takes float weights. Take the model that it was made from."
                )


def _compare(folder: Path, found: dict[str, tuple[Path, Stored]]) -> list[str]:
    """Names and shapes; returns patterns of what stands in old files and is no weight (masks, rotary frequencies)."""
    model, info = _on_meta(folder)
    for name in sorted(info["missing_keys"], key=_natural):
        raise PressError(
            f"{folder}: {name} is missing, which config.json asks for: it would be random. Fetch the model again."
        )
    for name, here, expected in sorted(info["mismatched_keys"], key=lambda item: _natural(item[0])):
        raise PressError(
            f"{folder}: {name} is {list(here)}, but config.json asks for {list(expected)}. Fetch the model again."
        )
    for name in sorted(info["unexpected_keys"], key=_natural):
        raise PressError(
            f"{folder}: {name} is no tensor of the {type(model).__name__} that config.json describes: the model "
            "would compute without it. Choose a model that is what its configuration says."
        )
    for line in info["error_msgs"]:
        raise PressError(f"{folder}: its weights cannot be loaded: {' '.join(str(line).split())[:300]}")
    _check_tied(folder, model, found)
    return list(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())


def _on_meta(folder: Path) -> "tuple[PreTrainedModel, dict[str, Any]]":
    """The model without weights, and how the names and shapes in the files go with it."""
    import transformers

    try:
        with _quiet(), hub_offline(), limited(SECONDS):
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                folder,
                device_map="meta",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
            )
            model.config.validate()  # as it is when the model is saved
            return model, info
    except PressError:
        raise
    except TooMuch as error:
        raise PressError(f"{folder / 'config.json'}: making a model of it {error}. Choose another model.") from error
    except Exception as error:  # a configuration can be wrong in ways that each architecture finds by itself
        if lack(error):  # the machine lacks it, not the model
            raise
        raise PressError(
            f"{folder / 'config.json'}: no model can be made of it: {first_sentence(error)} Fetch the model again."
        ) from error


def _check_tied(folder: Path, model: "PreTrainedModel", found: dict[str, tuple[Path, Stored]]) -> None:
    """PressError if the file has a head of its own where the configuration says that it is the embedding's."""
    tied = getattr(model, "_tied_weights_keys", None)
    if not model.config.tie_word_embeddings or not isinstance(tied, dict):
        return
    for name, other in tied.items():
        if name in found and other in found:
            (path, one), (other_path, two) = found[name], found[other]
            if not same_values(path, one, other_path, two):
                raise PressError(
                    f"{folder}: {name} is not {other}, but config.json says that they are one (tie_word_embeddings). "
                    "Set it to false if the model has a head of its own."
                )


def _natural(name: str) -> list[tuple[int, str]]:
    """Layer 2 before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


@contextmanager
def _quiet() -> Iterator[None]:
    """No bar and no table of transformers': what it found is said here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
