"""The values in config.json, held to what they can be before any library makes a model of them.

transformers takes whatever stands there: a million layers keep it busy for hours, heads that do not divide the width,
text where a number belongs or NaN are found by whoever computes with them first, if at all.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError

# Whole numbers -> (least, most). The most is far above any model that exists, and below what hangs or overflows. The
# spellings after the first are those of GPT-2 and of others that keep them.
COUNTS = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), (1, 1_000)),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), (1, 2**17)),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), (1, 2**12)),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), (1, 2**12)),
    **dict.fromkeys(("head_dim", "kv_channels", "query_pre_attn_scalar"), (1, 2**14)),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "moe_intermediate_size"), (1, 2**20)),
    "vocab_size": (1, 2**24),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "original_max_position_embeddings"), (8, 2**27)
    ),
    "sliding_window": (0, 2**31),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), (0, 2**16)),
    "num_experts_per_tok": (0, 2**16),
    "type_vocab_size": (0, 2**16),
    "num_labels": (0, 2**16),  # transformers makes a name for each, of whatever model
}
# Those that are never a list with a number for each layer.
SCALARS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "hidden_size", "n_embd", "d_model", "vocab_size")
# Numbers -> (least, most), the least left out itself where it is 0.
NUMBERS = {
    **dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"), (0, 1)),
    **dict.fromkeys(("rope_theta", "rope_local_base_freq", "rotary_emb_base"), (0, 1e15)),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct"), (0, 1)),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), (0, 1e9)),
    **dict.fromkeys(("attention_multiplier", "embedding_multiplier", "residual_multiplier"), (0, 1e9)),
    **dict.fromkeys(("logits_scaling", "logit_scale"), (0, 1e9)),
}
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
DTYPES = ("float16", "bfloat16", "float32", "float64", "auto")
ROPE = ("rope_scaling", "rope_parameters")
# Keys that parts of a configuration (text_config, …) may leave empty, or use for something else.
NESTED = ("architectures", "model_type", *ROPE)
NAME = re.compile(r"[A-Za-z_][\w.-]{0,99}", re.ASCII)
DEPTH = 20
MOST_KEYS = 2**16  # as many as labels; transformers handles each several times


def check_config(path: Path, config: dict[str, Any]) -> None:
    """PressError names the first key of config.json (``path``) whose value no model can have."""
    for key, value, problem in _problems(config, "", 0):
        raise PressError(f"{path}: {key} is {_shown(value)}, expected {problem}. Fetch the model again.")
    check_generation(path, config)  # where transformers 4 kept them


def check_generation(path: Path, settings: dict[str, Any]) -> None:
    """The same for generation_config.json, whose values the export copies for the runtime."""
    for key, value in settings.items():
        good, expected = GENERATION.get(key, (lambda _: True, ""))
        if value is not None and not good(value):
            raise PressError(f"{path}: {key} is {_shown(value)}, expected {expected}. Fetch the model again.")


def _shown(value: Any) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # a number of more digits than Python writes
        return "a number of thousands of digits"


def _problems(config: dict[str, Any], above: str, depth: int) -> Iterator[tuple[str, Any, str]]:
    """(key, value, what was expected) of what is wrong in a configuration, and in those that it holds."""
    if len(config) > MOST_KEYS:
        yield above.rstrip(".") or "the whole", f"{len(config):,} keys", f"at most {MOST_KEYS:,}"
        return
    if depth > DEPTH:
        yield above.rstrip("."), "…", f"no more than {DEPTH} levels"
        return
    for key, value in config.items():
        expected = _expected(key, value, top=depth == 0)
        if expected:
            yield above + key, value, expected
    yield from _together(config, above)
    for key in ROPE:
        if isinstance(config.get(key), dict):
            yield from _rope(config[key], f"{above}{key}.")
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _problems(value, f"{above}{key}.", depth + 1)


def _expected(key: str, value: Any, top: bool) -> str | None:
    """What the value should be; None if it can be as it is. A value that is null is the architecture's default."""
    if isinstance(value, float) and not math.isfinite(value):  # 1e999 is JSON
        return "a finite number"
    if key in COUNTS:
        least, most = COUNTS[key]
        each = value if isinstance(value, list) and value and key not in SCALARS else [value]  # one a layer
        good = all(_is_id(one) and least <= one <= most for one in each)
        expected = f"a whole number from {least} to {most:,}"
    elif key in NUMBERS:
        least, most = NUMBERS[key]
        good = _is_number(value) and least < value <= most
        expected = f"a number above {least}, at most {most:g}"
    elif key in ("architectures", "model_type") and top:
        good, expected = KINDS[key][0](value), KINDS[key][1]
        return None if good else expected
    else:
        check, expected = KINDS.get(key, (lambda _: True, ""))
        good = check(value)
    return None if good or value is None or (key in NESTED and not top) else expected


def _together(config: dict[str, Any], above: str) -> Iterator[tuple[str, Any, str]]:
    """What values have to be to one another."""
    number = {key: value for key, value in config.items() if _is_id(value)}
    width, heads = number.get("hidden_size"), number.get("num_attention_heads")
    if width and heads and width % heads and not any("head_dim" in key or "head_size" in key for key in number):
        yield f"{above}num_attention_heads", heads, f"a divisor of hidden_size {width}"
    groups = number.get("num_key_value_heads")
    if heads and groups and heads % groups:
        yield f"{above}num_key_value_heads", groups, f"a divisor of num_attention_heads {heads}"
    tokens = number.get("vocab_size")
    for key in ("bos_token_id", "eos_token_id", "pad_token_id") if tokens else ():
        ids = config.get(key) if isinstance(config.get(key), list) else [config.get(key)]
        if any(_is_id(one) and one >= tokens for one in ids):
            yield f"{above}{key}", config[key], f"ids below vocab_size {tokens}"
    layers, types = number.get("num_hidden_layers"), config.get("layer_types")
    if layers and isinstance(types, list) and len(types) != layers:
        yield f"{above}layer_types", f"a list of {len(types)}", f"a type for each of num_hidden_layers {layers}"


def _rope(rope: dict[str, Any], above: str) -> Iterator[tuple[str, Any, str]]:
    """Rotary embeddings' settings; those of newer configurations may hold one object a type of layer."""
    for key, value in rope.items():
        if key in ("type", "rope_type") and not _is_name(value):
            yield above + key, value, "the name of a rotary embedding"
        elif key in ("short_factor", "long_factor") and not _all(value, lambda one: _is_number(one) and one > 0):
            yield above + key, str(value), "a list of numbers above 0"
        elif key.endswith("factor") and isinstance(value, bool | str | int | float):
            if not (_is_number(value) and value > 0):
                yield above + key, value, "a number above 0"
        elif isinstance(value, dict):
            yield from _rope(value, f"{above}{key}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _all(values: Any, good: Callable[[Any], bool]) -> bool:
    return isinstance(values, list) and all(map(good, values))


def _are_tokens(value: Any) -> bool:
    # -1: how the first Llamas write that there is none
    return _all(value if isinstance(value, list) else [value], lambda one: _is_id(one) or one == -1)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


# Key -> whether a value can be one of it, and what it should be.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model_type": (_is_name, "the name of an architecture"),
    **dict.fromkeys(("architectures", "layer_types"), (lambda value: _all(value, _is_name), "a list of names")),
    **dict.fromkeys(
        ("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"),
        (_is_share, "a number from 0 to 1"),
    ),
    **dict.fromkeys(
        ("tie_word_embeddings", "use_cache", "attention_bias", "mlp_bias", "use_sliding_window"),
        (lambda value: isinstance(value, bool), "true or false"),
    ),
    **dict.fromkeys(
        ("is_encoder_decoder", "add_cross_attention", "torchscript"),
        (lambda value: value is False, "false in a model that goes on with a text"),
    ),
    **dict.fromkeys(
        ("output_attentions", "output_hidden_states"),
        (lambda value: value is False, "false: stages ask for what they need of a model"),
    ),
    "return_dict": (lambda value: value is True, "true: what a model gives is asked for by name"),
    "pruned_heads": (lambda value: value == {}, "an empty object: no head left out"),
    **dict.fromkeys(TOKENS, (_are_tokens, "a token's id, or a list of them")),
    **dict.fromkeys(("torch_dtype", "dtype"), (lambda value: value in DTYPES, f"one of {', '.join(DTYPES)}")),
    **dict.fromkeys(
        ("hidden_act", "hidden_activation", "activation_function"), (_is_name, "the name of an activation")
    ),
    **dict.fromkeys(ROPE, (lambda value: isinstance(value, dict), "an object")),
}


def _at_least(least: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and value >= least


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: _is_id(value) and value >= least


GENERATION: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(TOKENS, (_are_tokens, "a token's id, or a list of them")),
    **dict.fromkeys(
        ("do_sample", "early_stopping", "use_cache"), (lambda value: isinstance(value, bool), "true or false")
    ),
    **dict.fromkeys(("temperature", "repetition_penalty"), (_at_least(0), "a number from 0")),
    **dict.fromkeys(("length_penalty", "diversity_penalty"), (_is_number, "a number")),
    **dict.fromkeys(("top_p", "min_p", "typical_p"), (_is_share, "a number from 0 to 1")),
    **dict.fromkeys(
        ("num_beams", "num_return_sequences"), (lambda value: _is_id(value) and 1 <= value <= 1000, "from 1 to 1,000")
    ),
    **dict.fromkeys(("top_k", "max_length", "max_new_tokens"), (_whole(0), "a whole number from 0")),
    **dict.fromkeys(("min_length", "no_repeat_ngram_size"), (_whole(0), "a whole number from 0")),
}
