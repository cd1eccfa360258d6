"""A GGUF file (llama.cpp's format) as an ordinary Hugging Face checkpoint.

transformers reads the file; what it would pass over in silence is checked here. It initialises weights that the file
lacks at random, drops tensors and settings that it has no name for (scaled rotary embeddings among them), and cuts
text as GPT-2 does where it does not know the file's own way.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core import report
from olivepress.core.errors import PressError
from olivepress.core.lacks import lack

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

MAGIC = b"GGUF"
# Those whose conversion tests/pipeline/test_gguf.py compares with the checkpoint that the file was made from.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
# Of llama.cpp's ways to cut text before the merges (llama-vocab.cpp), those that do as GPT-2, which is what
# transformers takes where it does not know the way; and one that splits off each digit first. No merge of SmolLM's has
# a digit in it, so GPT-2's way differs in one thing alone: several blanks before a digit are a token each. ONNX Runtime
# GenAI knows no other way either, and what an adapter is trained on has to be what it is asked with.
DIGITS = ("smollm",)
AS_GPT2 = ("gpt-2", "mpt", "olmo", "phi-2")
# Settings that change nothing here: what they say is in the tensors' shapes, or is about other software.
HARMLESS = {
    "attention.key_length",
    "attention.value_length",
    "expert_count",
    "rope.dimension_count",
    "rope.scaling.type",
}


def convert(path: Path, folder: Path) -> dict[str, Any]:
    """Write the model in the GGUF file ``path`` to ``folder``: float16 safetensors, configuration, tokenizer.

    Returns the file's metadata; of arrays other than the vocabulary only the number of entries. PressError names the
    file, if it is broken or holds what transformers cannot read or would read wrongly.
    """
    with _named(path), _read_once():
        metadata, stored = _metadata(path)
        head = _check_settings(path, metadata, len(stored))
        tokenizer = _tokenizer(path, metadata)
        config, weights = _model(path, stored, head)
        _write(folder, metadata, config, weights, tokenizer)
    return metadata


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Whatever the readers of a broken file raise, as one line that names the file."""
    try:
        yield
    except PressError:
        raise
    except Exception as error:
        if lack(error) and not isinstance(error, MemoryError):  # a broken file may ask for all of it
            raise
        # struct.error, IndexError, KeyError, UnicodeDecodeError, RecursionError, …: the readers check nothing, and a
        # file can be broken in any place
        reason = " ".join(str(error).split())[:200]
        raise PressError(
            f"{path}: broken, cut off or no GGUF model ({type(error).__name__}: {reason}). Fetch it again."
        ) from error


@contextmanager
def _read_once() -> Iterator[None]:
    """Within the block, transformers reads a file's fields once, not anew for tokenizer, configuration and weights, and
    makes one table of tensor names, not one for every module: most of the time that a small model takes."""
    import gguf

    made = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in made.items():
        setattr(gguf, name, cache(function))
    try:
        yield
    finally:
        for name, function in made.items():
            setattr(gguf, name, function)


def _metadata(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The file's key-value pairs and the names of its tensors.

    The reader goes forward only, so a file's size bounds its time and memory.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] != MAGIC or len(head) < 8:
        raise PressError(f"{path}: not a GGUF file: it starts with {head[:4]!r}, expected {MAGIC!r}.")
    version = struct.unpack("<I", head[4:])[0]
    if version not in (2, 3):
        raise PressError(f"{path}: GGUF version {version}, expected 2 or 3, little-endian. Convert it with llama.cpp.")
    from transformers.integrations.gguf import read_gguf_metadata

    return read_gguf_metadata(str(path))


def _check_settings(path: Path, metadata: dict[str, Any], tensors: int) -> int:
    """The width of an attention head, which transformers reads of some architectures only.

    PressError for an architecture not in ARCHITECTURES, for settings that transformers passes over, and for more layers
    than the file has ``tensors``: transformers would make them all before it looks at the file.
    """
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    architecture = metadata["general.architecture"]
    if architecture not in ARCHITECTURES:
        raise PressError(
            f"{path}: architecture {str(architecture)[:80]!r}; GGUF files of {', '.join(ARCHITECTURES)} (Llama, "
            "Mistral, SmolLM, Qwen) can be read. Take the model's safetensors instead."
        )
    prefix = f"{architecture}."
    settings = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    if not 0 < settings["block_count"] < tensors:
        raise PressError(
            f"{path}: {prefix}block_count is {settings['block_count']}, but the file has {tensors} tensors. "
            "Fetch it again."
        )
    unread = sorted(settings.keys() - GGUF_CONFIG_MAPPING[architecture].keys() - HARMLESS)
    if settings.get("rope.scaling.type", "none") != "none":
        unread.append("rope.scaling.type")
    if settings.get("expert_count", 0):
        unread.append("expert_count")
    head = settings.get("attention.key_length", settings["embedding_length"] // settings["attention.head_count"])
    unread += [key for key in ("attention.value_length", "rope.dimension_count") if settings.get(key, head) != head]
    if unread:
        raise PressError(
            f"{path}: {prefix}{unread[0]} is set, which transformers does not read from a GGUF file: the model would "
            "compute something else. Take its safetensors instead."
        )
    return head


def _model(path: Path, stored: tuple[str, ...], head: int) -> "tuple[PreTrainedConfig, dict[str, torch.Tensor]]":
    """Configuration and float16 weights; PressError unless the file has all of the model's weights and no others."""
    import numpy as np
    import torch
    import transformers
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    found = load_gguf_checkpoint(str(path))["config"]
    # float32 on file; 1e-05 is what was meant by 9.999999747378752e-06
    found = {key: float(str(np.float32(value))) if isinstance(value, float) else value for key, value in found.items()}
    found.pop("_model_name_or_path", None)
    found["head_dim"] = head
    config = transformers.AutoConfig.for_model(found.pop("model_type"), **found)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    config.architectures = [type(model).__name__]
    config.dtype = torch.float16
    weights = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model, torch_dtype=torch.float16)
    weights = weights["tensors"]
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for name, shape in expected.items():
        if name not in weights:
            raise PressError(f"{path}: has no {name}, which its metadata ask for. Fetch it again.")
        if tuple(weights[name].shape) != shape:
            raise PressError(
                f"{path}: {name} is {list(weights[name].shape)}, but its metadata ask for {list(shape)}. "
                "Fetch it again."
            )
        if not weights[name].isfinite().all():
            raise PressError(f"{path}: {name} has values that are not finite in float16. Choose another model.")
    if len(stored) != len(expected):
        known = next((f", {name} among them," for name in stored if name.startswith("rope_f")), "")
        raise PressError(
            f"{path}: has {len(stored)} tensors{known} where transformers reads {len(expected)}: the model would "
            "compute something else. Take its safetensors instead."
        )
    return config, {name: weights[name] for name in expected}


def _tokenizer(path: Path, metadata: dict[str, Any]) -> "PreTrainedTokenizerBase":
    """The tokenizer as transformers builds it from the vocabulary, cutting text the way that the file names."""
    import transformers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    way = metadata.get("tokenizer.ggml.pre")
    known = {*DIGITS, *AS_GPT2, *GGUF_PRE_TOKENIZER_SPLITS}
    byte_level = metadata["tokenizer.ggml.model"] == "gpt2"
    if byte_level and way not in known:
        raise PressError(
            f"{path}: tokenizer.ggml.pre is {str(way)[:80]!r}: how it cuts text is not known here, and the tokens "
            f"would differ from those that the model was trained on. Known are {', '.join(sorted(known))}."
        )
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    if byte_level and way in DIGITS:
        report.note(f"{path.name}: several blanks or line breaks before a digit are a token each, in the runtime, too.")
    tokenizer.model_max_length = metadata[f"{metadata['general.architecture']}.context_length"]
    return tokenizer


def _write(
    folder: Path,
    metadata: dict[str, Any],
    config: "PreTrainedConfig",
    weights: "dict[str, torch.Tensor]",
    tokenizer: "PreTrainedTokenizerBase",
) -> None:
    import transformers
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    # llama.cpp ends a turn at any of them
    ends = [metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot", "eom")]
    ends = [end for end in dict.fromkeys(ends) if end is not None]
    if not ends:
        report.note("The GGUF file names no end token: answers run on unless the chat template's own token ends them.")
    config.save_pretrained(folder)
    generation = transformers.GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends or None,
        pad_token_id=config.pad_token_id,
    )
    generation.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
