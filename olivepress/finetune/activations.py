"""What the activations of a training step take, and whether the device has room to keep them for the way back."""

from typing import Any

# Bytes that a layer keeps of a token in 16 bits, for each unit of its hidden and of its intermediate width; after
# Korthikanti et al. 2022 (arXiv:2205.05198), section 4, with the matrix of attention never kept (fused attention) and a
# gated feed-forward layer. Of HIDDEN 20 are LoRA's: PEFT keeps inputs and dropout's masks in 32 bits for each module.
# And of the logits, for each of the vocabulary. tests/gpu/test_activations_on_cuda.py holds them to what is taken.
HIDDEN, INTERMEDIATE, VOCABULARY = 44, 10, 14
SHARE = 4  # so many stages may compute on a device at a time, each with its share


def activation_bytes(config: Any, tokens: int, *, bits: int) -> int:
    """Bytes, bounded from above, for ``tokens`` of a step, the padding included; ``config``: of transformers."""
    hidden = config.hidden_size
    width = HIDDEN * hidden + INTERMEDIATE * getattr(config, "intermediate_size", 4 * hidden)
    return tokens * (config.num_hidden_layers * width * bits // 16 + VOCABULARY * config.vocab_size)


def room_for(config: Any, tokens: int, device: str, *, bits: int) -> bool:
    """Whether a quarter of what is free on the CUDA ``device`` holds them: then nothing has to be computed again."""
    import torch

    return activation_bytes(config, tokens, bits=bits) <= torch.cuda.mem_get_info(device)[0] // SHARE
