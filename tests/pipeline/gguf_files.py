"""Writes a checkpoint as the GGUF file that llama.cpp's converter makes of it."""

from pathlib import Path
from typing import Any

import numpy as np

ROWS = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}
# GGUF's names, in the order in which llama.cpp writes them
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
CONTROL, NORMAL = 3, 1
MERGES = ["Ġ t", "h e", "Ċ Ċ", "Ġ Ġ"]


def gguf_name(name: str) -> str:
    """The name in a GGUF file of a parameter of transformers' Llama."""
    outer = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in outer:
        return outer[name]
    _, _, layer, *module, kind = name.split(".")
    return f"blk.{layer}.{NAMES['.'.join(module)]}.{kind}"


def write_gguf(
    checkpoint: Path,
    path: Path,
    *,
    quantized: str = "F16",
    pre: str = "smollm",
    settings: dict[str, Any] | None = None,
    drop: str = "",
    extra: dict[str, np.ndarray] | None = None,
    licence: str = "apache-2.0",
) -> None:
    """Write the checkpoint folder to the GGUF file ``path``.

    ``quantized`` is the type of its matrices; vectors are F32. ``settings`` are further ones of the architecture, None
    leaves one out; ``drop`` names a tensor to leave out, ``extra`` has further ones. Llama's rows of q and k are
    permuted, as llama.cpp's rotary embedding has them.
    """
    import gguf
    from safetensors.numpy import load_file
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    architecture = "llama" if config.model_type == "mistral" else config.model_type
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("A tiny model")
    writer.add_license(licence)
    values = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_parameters["rope_theta"],
        "vocab_size": config.vocab_size,
        **(settings or {}),
    }
    for key, value in values.items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}.get(type(value))
        if add:
            add(f"{architecture}.{key}", value)

    backend = tokenizer.backend_tokenizer
    tokens = sorted(backend.get_vocab(with_added_tokens=True).items(), key=lambda entry: entry[1])
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    names = [token for token, _ in tokens] + [merge.replace(" ", "") for merge in MERGES]
    writer.add_token_list(names)
    writer.add_token_types([CONTROL if token in added else NORMAL for token in names])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(tokenizer.convert_tokens_to_ids("<|end|>"))
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)

    kind = gguf.GGMLQuantizationType[quantized]
    for name, loaded in load_file(checkpoint / "model.safetensors").items():
        if drop and name.endswith(drop):
            continue
        weight = loaded
        module = ".".join(name.split(".")[3:-1])
        if architecture == "llama" and module in ROWS:
            heads = getattr(config, ROWS[module])
            shape = (heads, 2, len(weight) // heads // 2, *weight.shape[1:])
            weight = np.ascontiguousarray(weight.reshape(shape).swapaxes(1, 2).reshape(weight.shape))
        if weight.ndim == 1:
            writer.add_tensor(gguf_name(name), weight.astype(np.float32))
        elif quantized == "F16":
            writer.add_tensor(gguf_name(name), weight)
        else:
            blocks = gguf.quantize(weight.astype(np.float32), kind)
            writer.add_tensor(gguf_name(name), blocks, raw_dtype=kind)
    for name, tensor in (extra or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
