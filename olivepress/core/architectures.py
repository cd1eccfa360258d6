"""Which models can be pressed: every architecture that ONNX Runtime GenAI's builder (0.14.1) names, and which work.

Each was tried with a tiny random checkpoint, quantized, exported and compared with PyTorch
(tests/pipeline/test_every_architecture.py); docs/architectures.md is the table, by tools/architectures.py. fetch
refuses the rest, before hours of work.
"""

from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError

# Architecture -> the model_type of its configuration
WORKS = {
    "Ernie4_5ForCausalLM": "ernie4_5",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3_text",
    "GemmaForCausalLM": "gemma",
    "GraniteForCausalLM": "granite",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "NemotronForCausalLM": "nemotron",
    "OlmoForCausalLM": "olmo",
    "Phi3ForCausalLM": "phi3",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "SmolLM3ForCausalLM": "smollm3",
}
# Those that AutoAWQ has a recipe for; the others are quantized by rtn.
AWQ = ("gemma", "gemma2", "llama", "mistral", "phi3", "qwen2", "qwen3")

_OWN_CODE = "its code is its publisher's own and was written for transformers 4"
_EYES = "it reads pictures, too; take the checkpoint of its language model alone"
_READER = "the builder reads its quantized weights under other names than they have"
REFUSED = {
    "ChatGLMForConditionalGeneration": _OWN_CODE,
    "ChatGLMModel": _OWN_CODE,
    "Gemma3ForConditionalGeneration": _EYES,
    "GptOssForCausalLM": "its experts are quantized in a format of their own",
    "HunYuanDenseV1ForCausalLM": _READER,
    "InternLM2ForCausalLM": _OWN_CODE,
    "Lfm2ForCausalLM": _READER,
    "Mistral3ForConditionalGeneration": _EYES,
    "Phi3SmallForCausalLM": _OWN_CODE,
    "Phi3VForCausalLM": _OWN_CODE,
    "Phi4MMForCausalLM": _OWN_CODE,
    "PhiForCausalLM": _READER,
    "PhiMoEForCausalLM": "its experts are quantized in a format of their own",
    "Qwen2_5_VLForConditionalGeneration": _EYES,
    "Qwen3VLForConditionalGeneration": _EYES,
    "Qwen3_5ForConditionalGeneration": _EYES,
    "Qwen3_5MoeForConditionalGeneration": _EYES,
    "VideoChatFlashQwenForCausalLM": _OWN_CODE,
    "WhisperForConditionalGeneration": "it writes down speech",
}
ROTATIONS = ("default", "linear", "dynamic", "yarn", "llama3", "longrope", "proportional")
ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "relu2")
LAYERS = ("full_attention", "sliding_attention")
STEP = 16  # GroupQueryAttention: head size, and how much of it is rotated, are multiples of it
# Those with layers that see a window of tokens, and of them those where use_sliding_window has to say so. Where the key
# stands in another's configuration, transformers passes over it and the builder does not.
SWITCHED = ("Qwen2ForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM")
WINDOWED = ("Gemma2ForCausalLM", "Gemma3ForCausalLM", "MistralForCausalLM", "Phi3ForCausalLM", *SWITCHED)
# Those whose heads may be rotated in part; in others transformers passes over the factor, or cannot compute with it.
PARTLY = ("NemotronForCausalLM", "Phi3ForCausalLM")
# What transformers takes to be rotated where a configuration does not say
ROTATED = {"nemotron": 0.5}


def check_architecture(folder: Path, config: dict[str, Any]) -> None:
    """PressError unless the model in ``folder`` with this config.json can be pressed."""
    reason = refusal(config)
    if reason:
        raise PressError(f"{folder / 'config.json'}: {reason}")


def refusal(config: dict[str, Any]) -> str | None:
    """Why a model with this config.json is refused; None if it is not."""
    architecture = config["architectures"][0]
    if architecture not in WORKS:
        why = REFUSED.get(architecture, "ONNX Runtime GenAI's builder does not know it")
        return f"{architecture} cannot be pressed: {why}. Those that can: {', '.join(WORKS)} (docs/architectures.md)."
    reason = _said_twice(config) or _refused_rotation(architecture, config) or _refused_value(architecture, config)
    if reason is None and config["model_type"] != WORKS[architecture]:
        return (
            f"architectures is {architecture} and model_type {config['model_type']!r}, expected "
            f"{WORKS[architecture]!r}: the builder goes by the one and transformers by the other."
        )
    return reason


def _said_twice(config: dict[str, Any]) -> str | None:
    every = [rope for key in ("rope_parameters", "rope_scaling") for rope in _flat(config.get(key))]
    for key in ("partial_rotary_factor", "rope_theta"):  # transformers goes by the one, the builder by the other
        inner = every[0].get(key) if len(every) == 1 else None
        if None not in (inner, config.get(key)) and inner != config[key]:
            return f"{key} is {config[key]}, and {inner} within the rotary embedding's settings. Take out one."
    return None


def _refused_rotation(architecture: str, config: dict[str, Any]) -> str | None:
    every = [rope for key in ("rope_parameters", "rope_scaling") for rope in _flat(config.get(key))]
    kinds = [rope.get("rope_type") or rope.get("type") or "default" for rope in every]
    unknown = [kind for kind in kinds if kind not in (*ROTATIONS, "su")]
    if unknown:
        return f"rope_parameters: rope_type is {unknown[0]!r}; known are {', '.join(ROTATIONS)}."
    if any(kind in ("longrope", "su") for kind in kinds) and architecture != "Phi3ForCausalLM":
        return "rope_parameters: rope_type is 'longrope', which the builder exports for Phi3ForCausalLM alone."
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    size = config.get("head_dim") or (width // heads if isinstance(width, int) and isinstance(heads, int) else STEP)
    parts = [part for rope in every if (part := rope.get("partial_rotary_factor")) is not None]
    part = (parts or [config.get("partial_rotary_factor", ROTATED.get(config["model_type"], 1.0))])[0]
    if isinstance(part, int | float) and (size % STEP or int(size * part) % STEP or size * part < STEP):
        return (
            f"heads have {size} values, of which {int(size * part)} are rotated; ONNX Runtime's attention wants "
            f"multiples of {STEP}."
        )
    if part not in (1, None) and architecture not in PARTLY:
        return f"partial_rotary_factor is {part}, but the heads of a {architecture} are rotated whole. Take it out."
    longest, original = config.get("max_position_embeddings"), config.get("original_max_position_embeddings")
    factors = any("long_factor" in rope for rope in every)
    if architecture == "Phi3ForCausalLM" and original is not None and longest != original and not factors:
        return (
            f"max_position_embeddings is {longest} and original_max_position_embeddings {original}, but there are no "
            "long-RoPE factors. Set the two to the same number."
        )
    return None


def _flat(rope: Any) -> list[dict[str, Any]]:
    """The dictionaries of one key: one, or one for each kind of layer."""
    if not isinstance(rope, dict):
        return []
    inner = [value for value in rope.values() if isinstance(value, dict)]
    return inner or [rope]


def _refused_value(architecture: str, config: dict[str, Any]) -> str | None:
    window, named = config.get("sliding_window"), config.get("hidden_activation") or config.get("hidden_act")
    slides = architecture not in SWITCHED or config.get("use_sliding_window")
    kinds = config.get("layer_types") or []
    unknown = [kind for kind in kinds if kind not in LAYERS]
    reasons = (
        (bool(unknown), f"layer_types has {unknown[:1]}; the builder knows {', '.join(LAYERS)}."),
        (
            LAYERS[1] in kinds and "sliding_window" in config and not window,
            f"layer_types has {LAYERS[1]}, but sliding_window is {window}. Set it to a number of tokens.",
        ),
        (config.get("clip_qkv"), f"clip_qkv is {config.get('clip_qkv')}, which the builder leaves out."),
        (
            config.get("use_bidirectional_attention"),
            "use_bidirectional_attention is set: its tokens see later ones, and the builder's do not.",
        ),
        (
            architecture == "NemotronForCausalLM" and config.get("mlp_bias"),
            "mlp_bias is set, which the builder leaves out of a Nemotron.",
        ),
        (
            window is not None and architecture not in WINDOWED,
            f"sliding_window is {window}, but a {architecture} has no windows. Set it to null.",
        ),
        (
            window == 0 and slides,
            "sliding_window is 0, so that no token would see any. Set it to null if there is no window.",
        ),
        (
            isinstance(named, str) and named not in ACTIVATIONS,
            f"hidden_act is {named!r}; the builder knows {', '.join(ACTIVATIONS)}.",
        ),
    )
    return next((reason for is_so, reason in reasons if is_so), None)
