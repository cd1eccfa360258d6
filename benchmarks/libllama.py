"""llama.cpp by its C functions (llama.h), from a package that holds its shared libraries.

Of the structs that are passed by value only the head is named: what follows differs between versions, and the library's
own defaults fill it. They are passed in memory, so one that is larger than the library's does no harm.
"""

import ctypes as c
import json
import math
import os
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    import gguf
    import numpy as np

# llama.h, enum llama_ftype
FTYPES = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}
LIBRARIES = ("libggml-base*.so*", "libggml.*so*", "libllama.*so*")  # in the order in which they need each other
LARGEST = 512  # bytes of a struct of settings, more than any has


class _Quantize(c.Structure):
    _fields_ = (("threads", c.c_int32), ("ftype", c.c_int32), ("rest", c.c_byte * (LARGEST - 8)))


class _Model(c.Structure):
    _fields_ = (("rest", c.c_byte * LARGEST),)


class _Context(c.Structure):
    _fields_ = (("n_ctx", c.c_uint32), ("n_batch", c.c_uint32), ("rest", c.c_byte * (LARGEST - 8)))


class _Batch(c.Structure):
    _fields_ = (
        ("count", c.c_int32),
        ("token", c.POINTER(c.c_int32)),
        ("embedding", c.c_void_p),
        ("place", c.POINTER(c.c_int32)),
        ("sequences", c.POINTER(c.c_int32)),
        ("sequence", c.POINTER(c.POINTER(c.c_int32))),
        ("wanted", c.POINTER(c.c_int8)),
    )


# function -> (result, arguments)
FUNCTIONS = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (c.c_void_p, c.c_void_p)),
    "llama_model_quantize_default_params": (_Quantize, ()),
    "llama_model_quantize": (c.c_uint32, (c.c_char_p, c.c_char_p, c.POINTER(_Quantize))),
    "llama_model_default_params": (_Model, ()),
    "llama_model_load_from_file": (c.c_void_p, (c.c_char_p, _Model)),
    "llama_context_default_params": (_Context, ()),
    "llama_init_from_model": (c.c_void_p, (c.c_void_p, _Context)),
    "llama_adapter_lora_init": (c.c_void_p, (c.c_void_p, c.c_char_p)),
    "llama_set_adapters_lora": (c.c_int32, (c.c_void_p, c.POINTER(c.c_void_p), c.c_size_t, c.POINTER(c.c_float))),
    "llama_set_n_threads": (None, (c.c_void_p, c.c_int32, c.c_int32)),
    "llama_get_memory": (c.c_void_p, (c.c_void_p,)),
    "llama_memory_clear": (None, (c.c_void_p, c.c_bool)),
    "llama_batch_init": (_Batch, (c.c_int32, c.c_int32, c.c_int32)),
    "llama_decode": (c.c_int32, (c.c_void_p, _Batch)),
    "llama_get_logits": (c.POINTER(c.c_float), (c.c_void_p,)),
    "llama_get_logits_ith": (c.POINTER(c.c_float), (c.c_void_p, c.c_int32)),
    "llama_model_get_vocab": (c.c_void_p, (c.c_void_p,)),
    "llama_vocab_n_tokens": (c.c_int32, (c.c_void_p,)),
}


@c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
def _say_nothing(_level: int, _text: bytes, _data: int) -> None:
    """It would log every tensor."""


@cache  # its back ends are registered once a process
def load(folder: Path) -> c.CDLL:
    """libllama of ``folder``, with the fastest of its processor back ends that this machine can run."""
    found: dict[str, c.CDLL] = {}
    for pattern in LIBRARIES:
        file = min(folder.glob(pattern), default=None)
        if file is None:
            raise PressError(f"{folder}: no {pattern} there, expected llama.cpp's shared libraries.")
        found[pattern] = c.CDLL(str(file), mode=c.RTLD_GLOBAL)
    *_, ggml, library = found.values()
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.llama_log_set(c.cast(_say_nothing, c.c_void_p), None)
    ggml.ggml_backend_load_all_from_path(os.fsencode(folder))
    library.llama_backend_init()
    return library


def quantize(folder: Path, source: Path, out: Path, kind: str, threads: int) -> None:
    """Write ``out`` in the format ``kind``, without an importance matrix, as llama-quantize does."""
    library = load(folder)
    settings = library.llama_model_quantize_default_params()
    settings.threads, settings.ftype = threads, FTYPES[kind]
    failed = library.llama_model_quantize(os.fsencode(source), os.fsencode(out), c.byref(settings))
    if failed:
        raise PressError(f"{out.name}: llama.cpp's quantizer gave {failed}.")


# a projection in a checkpoint, of a Llama or of a Phi-3 -> in a GGUF file
PROJECTIONS = {
    **{f"{name}_proj": f"attn_{name}" for name in ("q", "k", "v", "qkv")},
    "o_proj": "attn_output",
    **{f"{name}_proj": f"ffn_{name}" for name in ("gate", "up", "down")},
    "gate_up_proj": "ffn_up",
}


def write_adapter(source: Path, out: Path, architecture: str = "llama") -> None:
    """A PEFT adapter as a GGUF file in float16, for its speed alone: rows of a Llama's q and k stay as in PyTorch."""
    import gguf
    import numpy as np
    from safetensors.numpy import load_file

    writer = gguf.GGUFWriter(out, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    alpha = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))["lora_alpha"]
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for name, array in load_file(source / "adapter_model.safetensors").items():
        *_, layer, _, projection, side, _ = name.split(".")
        kind = "lora_a" if side == "lora_A" else "lora_b"
        writer.add_tensor(f"blk.{layer}.{PROJECTIONS[projection]}.weight.{kind}", array.astype(np.float16))
    _write(writer)


# other tensors of a Phi-3
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def write_phi3(source: Path, out: Path) -> None:
    """A float16 checkpoint of tools/make_random.py with the architecture phi3 as a GGUF file, tokenizer and all."""
    import gguf
    import numpy as np
    from safetensors import safe_open

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    heads = config["num_attention_heads"]
    writer = gguf.GGUFWriter(out, "phi3")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_rope_scaling_orig_ctx_len(config["original_max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_tokenizer(writer, source, config)
    if scaling := config.get("rope_scaling"):
        most, original = config["max_position_embeddings"], config["original_max_position_embeddings"]
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(most / original) / math.log(original)))
        for kind in ("long", "short"):
            writer.add_tensor(f"rope_factors_{kind}.weight", np.array(scaling[f"{kind}_factor"], np.float32))
    for shard in sorted(source.glob("*.safetensors")):
        with safe_open(shard, "np") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                module = name.removesuffix(".weight")
                known = OUTSIDE.get(module)
                if not known:  # model.layers.N.…
                    _, _, layer, *_, last = module.split(".")
                    known = f"blk.{layer}.{NORMS.get(last) or PROJECTIONS[last]}"
                array = file.get_tensor(name)
                writer.add_tensor(f"{known}.weight", array.astype(np.float32) if array.ndim == 1 else array)
    _write(writer)


def _add_tokenizer(writer: "gguf.GGUFWriter", source: Path, config: dict[str, Any]) -> None:
    """A byte-level BPE, split as GPT-2's is."""
    import gguf

    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    tokens = {**{number: token for token, number in tokenizer["model"]["vocab"].items()}, **special}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([tokens[number] for number in range(config["vocab_size"])])
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_token_types([control if number in special else normal for number in range(config["vocab_size"])])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def _write(writer: "gguf.GGUFWriter") -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Llama:
    """A GGUF file in llama.cpp's runtime, on ``threads`` threads, for at most ``length`` tokens; with an adapter's."""

    def __init__(self, folder: Path, file: Path, threads: int, length: int = 512, adapter: Path | None = None) -> None:
        self._library = library = load(folder)
        model = library.llama_model_load_from_file(os.fsencode(file), library.llama_model_default_params())
        if not model:
            raise PressError(f"{file}: llama.cpp does not load it.")
        settings = library.llama_context_default_params()
        settings.n_ctx = length
        settings.n_batch = max(settings.n_batch, length)  # tokens of a prompt that it takes at once
        self._context = library.llama_init_from_model(model, settings)
        library.llama_set_n_threads(self._context, threads, threads)
        if adapter:
            lora = library.llama_adapter_lora_init(model, os.fsencode(adapter))
            some, scales = (c.c_void_p * 1)(lora), (c.c_float * 1)(1.0)
            if not lora or library.llama_set_adapters_lora(self._context, some, 1, scales):
                raise PressError(f"{adapter}: llama.cpp does not load it.")
        self._batch = library.llama_batch_init(length, 0, 1)
        self.vocabulary: int = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))

    def clear(self) -> None:
        """Forget every token."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)

    def read(self, ids: Sequence[int], first: int = 0, *, every: bool = False) -> None:
        """Read ``ids``, the first at place ``first``; logits are kept of the last, or of ``every`` one."""
        batch = self._batch
        batch.count = len(ids)
        for number, token in enumerate(ids):
            batch.token[number], batch.place[number] = token, first + number
            batch.sequences[number], batch.sequence[number][0] = 1, 0
            batch.wanted[number] = every or number == len(ids) - 1
        if self._library.llama_decode(self._context, batch):
            raise PressError("llama.cpp: llama_decode failed.")

    def logits(self, ids: Sequence[int]) -> "np.ndarray":
        """Logits [len(ids), vocabulary], float32, of one sequence from an empty cache; valid until the next call."""
        import numpy as np

        self.clear()
        self.read(ids, every=True)
        return np.ctypeslib.as_array(self._library.llama_get_logits(self._context), (len(ids), self.vocabulary))

    def decode(self, prompt: Sequence[int], tokens: int, warm_up: int) -> tuple[float, float]:
        """Greedily from an empty cache: (tokens a second after ``warm_up`` of them, seconds of the prompt)."""
        import numpy as np

        def step(ids: Sequence[int], place: int) -> int:
            self.read(ids, place)
            last = self._library.llama_get_logits_ith(self._context, -1)
            return int(np.ctypeslib.as_array(last, (self.vocabulary,)).argmax())

        self.clear()
        start = time.perf_counter()
        token = step(prompt, 0)
        prefill = time.perf_counter() - start
        for number in range(tokens - 1):
            if number == warm_up:
                start = time.perf_counter()
            token = step([token], len(prompt) + number)
        return (tokens - 1 - warm_up) / (time.perf_counter() - start), prefill
