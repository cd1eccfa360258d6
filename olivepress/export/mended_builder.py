"""ONNX Runtime GenAI's builder (0.14.1) with what it gets wrong put right: it would write graphs that differ silently.

It reads a configuration as transformers 4 wrote it. transformers 5 keeps one dictionary ``rope_parameters`` instead,
whatever the file says, and what the builder does not find there it takes to be the default. Mended here:

- **Rotary tables** are those of the model's own module in transformers, so YaRN, llama3, linear, NTK, a part of the
  head and a theta per kind of layer are what they are in training.
- **Sliding windows** follow ``layer_types``; the builder gives all layers of a Qwen the same one.
- **Layers without rotation** (SmolLM3's NoPE) have none; the builder asks for an input there that it has taken out.
- **Norms** have the configuration's epsilon, whichever name it has there; those of OLMo are LayerNorms; 1 is added to
  weights in float32 where Gemma and Nemotron add it.
- **Gemma's embedding** is scaled by the root of its width, not by that rounded to two decimals.
- **For TensorRT for RTX** products stay MatMulNBits, as for the others, and passes/dequantized.py makes of them what
  TensorRT takes. The builder's own way writes an AWQ checkpoint's nibbles, which are unsigned, as signed ones, with
  zero points that TensorRT does not take, leaves q, k and v as they are, and the head in float16.

tests/pipeline/test_mended_builder.py shows the fault of each without it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

FULL, SLIDING = "full_attention", "sliding_attention"
EPSILONS = ("rms_norm_eps", "layer_norm_eps", "norm_eps", "layer_norm_epsilon")
OLMO_EPSILON = 1e-5  # transformers' OlmoLayerNorm has it in its code


@contextmanager
def mended_builder() -> Iterator[None]:
    """Within the block, the builder works as described above."""
    from onnxruntime_genai.models import builder

    model, config_class = builder.Model, builder.AutoConfig
    made, attend, normalise = model.__init__, model.make_attention, model.make_layernorm_op
    normalise_by_parts = model._make_layernorm_op  # TensorRT for RTX's
    tables = model.make_rotary_embedding_caches_from_scratch

    def init(self: Any, config: "PretrainedConfig", *args: Any) -> None:
        self.config = config
        made(self, config, *args)
        self.quant_attrs["use_qdq"] = False
        if isinstance(self, builder.OLMoModel):
            self.layernorm_attrs.update(simple=False, epsilon=OLMO_EPSILON)

    def init_gemma(self: Any, config: "PretrainedConfig", *args: Any) -> None:
        made_gemma(self, config, *args)
        self.embed_attrs["scale"] = config.hidden_size**0.5

    def widen(self: Any, norm: Any) -> None:
        if getattr(norm, "weight", None) is not None and self.layernorm_attrs["add_offset"]:
            norm.weight = norm.weight.float()

    def make_layernorm(self: Any, layer_id: int, layernorm: Any, *args: Any, **kwargs: Any) -> None:
        widen(self, layernorm)
        normalise(self, layer_id, layernorm, *args, **kwargs)

    def make_layernorm_by_parts(self: Any, layer_id: int, layernorm: Any, *args: Any, **kwargs: Any) -> None:
        widen(self, layernorm)
        normalise_by_parts(self, layer_id, layernorm, *args, **kwargs)

    def make_attention(self: Any, layer_id: int, attention: Any, root_input: str, **kwargs: Any) -> None:
        window, rope = self.window_size, self.attention_attrs["rope"]
        self.window_size = window_of(self.config, layer_id)
        rotated = getattr(self.config, "no_rope_layers", None)  # 0 where there is none
        self.attention_attrs["rope"] = not rotated or bool(rotated[layer_id])
        widen(self, getattr(attention, "q_norm", None))
        widen(self, getattr(attention, "k_norm", None))
        attend(self, layer_id, attention, root_input, **kwargs)
        self.window_size = window
        self.attention_attrs["rope"] = rope

    def make_tables(self: Any) -> "tuple[torch.Tensor, torch.Tensor]":
        local = hasattr(self, "rope_local_theta") and self.rope_attrs["theta"] == self.rope_local_theta
        return rotary_tables(self.config, self.rope_attrs["cache_length"], SLIDING if local else FULL)

    class Config:
        @staticmethod
        def from_pretrained(*args: Any, **kwargs: Any) -> "PretrainedConfig":
            return as_transformers_4(config_class.from_pretrained(*args, **kwargs))

    made_gemma = builder.GemmaModel.__init__
    builder.GemmaModel.__init__ = init_gemma
    model.__init__, model.make_attention, model.make_layernorm_op = init, make_attention, make_layernorm
    model._make_layernorm_op = make_layernorm_by_parts
    model.make_rotary_embedding_caches_from_scratch = make_tables
    builder.AutoConfig = Config
    try:
        yield
    finally:
        builder.GemmaModel.__init__ = made_gemma
        model.__init__, model.make_attention, model.make_layernorm_op = made, attend, normalise
        model._make_layernorm_op = normalise_by_parts
        model.make_rotary_embedding_caches_from_scratch = tables
        builder.AutoConfig = config_class


def as_transformers_4(config: "PretrainedConfig") -> "PretrainedConfig":
    """The same configuration with the attributes that the builder looks for; its rope_parameters move aside."""
    rope = getattr(config, "rope_parameters", None) or {}
    config.olivepress_rope = rope
    if SLIDING in rope:
        config.rope_local_base_freq = rope[SLIDING]["rope_theta"]
    rope = rope.get(FULL, rope)
    if rope:
        config.rope_theta = rope["rope_theta"]
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        config.partial_rotary_factor = rope["partial_rotary_factor"]
    if rope.get("rope_type") == "longrope":
        config.rope_parameters = {**rope, "type": "longrope"}
    elif rope:
        config.rope_parameters = None
    epsilon = next((value for name in EPSILONS if (value := getattr(config, name, None)) is not None), None)
    if epsilon is not None:
        config.rms_norm_eps = epsilon
    return config


def window_of(config: "PretrainedConfig", layer: int) -> int | None:
    """How many tokens a layer sees, as GroupQueryAttention has it: -1 for all, None in a model without windows."""
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    return -1 if window and kinds and kinds[layer] != SLIDING else window


def rotary_tables(config: "PretrainedConfig", length: int, kind: str) -> "tuple[torch.Tensor, torch.Tensor]":
    """cos and sin [length, rotated part of a head] of transformers' model; ``kind`` of layer counts where they differ.

    Where they depend on the length of the text (long-RoPE), they are those of a text of this length.
    """
    import copy

    import torch
    import transformers
    from accelerate import init_empty_weights

    config = copy.deepcopy(config)
    config.rope_parameters = config.olivepress_rope
    with init_empty_weights(include_buffers=False):
        rotary = transformers.AutoModelForCausalLM.from_config(config).base_model.rotary_emb
    there = config.layer_types if SLIDING in config.olivepress_rope else []
    kinds = (kind if kind in there else there[0],) if there else ()  # of a kind that no layer is none is asked for
    cos, sin = rotary(torch.zeros(1), torch.arange(length)[None], *kinds)
    return cos[0], sin[0]
