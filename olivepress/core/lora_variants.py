"""Which variants of LoRA an exported graph computes, which it does not and why, and PEFT's patterns for modules.

The graph has two small products beside each projection, for every token, and nothing else: that is what decides.
"""

import re

# Keys of PEFT's LoraConfig that change more than A, B and their scale, and why they cannot be exported.
REFUSED = {
    "use_dora": "DoRA (arXiv:2402.09353) also scales the base's weights, which the exported graph has no input for",
    "alora_invocation_tokens": "aLoRA (arXiv:2504.12397) acts only after its invocation tokens, and the exported graph "
    "applies an adapter to every token",
    "modules_to_save": "whole modules of its own would replace weights of the base, which all adapters share",
    "bias": "biases that are trained belong to the base, which all adapters share",
    "lora_bias": "the exported graph has no input for a bias beside lora_B",
    "trainable_token_indices": "trained tokens are rows of the base's embedding, which all adapters share",
    "layer_replication": "the exported graph has each layer of the base once",
    "target_parameters": "the exported graph has inputs beside projections only",
    "use_qalora": "QA-LoRA (arXiv:2309.14717) pools the inputs of lora_A, which the exported graph does not",
    "use_bdlora": "the exported graph computes whole matrices, not blocks of them",
}
# The same, as people may write them into params.yaml.
REFUSED_PARAMS = {
    **REFUSED,
    "loha": "LoHa (arXiv:2108.06098) multiplies matrices element by element; the exported graph has inputs for LoRA",
    "lokr": "LoKr (arXiv:2309.14859) is a Kronecker product; the exported graph has inputs for LoRA",
    "peft_type": "LoRA is the one method whose adapters the exported graph takes",
    "init_lora_weights": "PEFT's other starts change the base's weights; the adapter would be right over those only",
    "use_rslora": "its name is rslora",
}

# A pattern of PEFT's is a regular expression. What may stand here takes time that is bounded: names, classes and
# alternatives, and repetitions of a single character, none of a group.
_ATOM = r"(?:[\w-]|\\[.dw-]|\.|\[[\w-]+\])"
_PATTERN = re.compile(rf"(?:{_ATOM}[*+?]?|[()|^$])+", re.ASCII)
REPETITIONS = 2
ALTERNATIVES = 8
LONGEST = 200


def check_pattern(pattern: str) -> str:
    """The pattern, if it is a regular expression of bounded time; ValueError else."""
    if len(pattern) > LONGEST:
        raise ValueError(f"a pattern of {len(pattern)} characters, expected at most {LONGEST}")
    counts = (sum(map(pattern.count, "*+?")), sum(map(pattern.count, "(|")))
    if not _PATTERN.fullmatch(pattern) or counts[0] > REPETITIONS or counts[1] > ALTERNATIVES or "(?" in pattern:
        raise ValueError(
            f"{pattern!r}: expected the name of a module, such as q_proj or layers.0.self_attn.q_proj, or a simple "
            f"regular expression: at most {REPETITIONS} repetitions, of single characters, and {ALTERNATIVES} groups "
            "and alternatives"
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r}: {error}") from error
    return pattern


def read_patterns(text: str) -> dict[str, float]:
    """``q_proj=16, layers.0.o_proj=4`` as PEFT takes it, pattern to number; ValueError for anything else."""
    found: dict[str, float] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        pattern, _, number = (part.strip() for part in entry.rpartition("="))
        if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", number) or not float(number):
            raise ValueError(f"{entry!r}: expected PATTERN=NUMBER, joined by commas, such as q_proj=16, o_proj=4")
        if check_pattern(pattern) in found:
            raise ValueError(f"{pattern} is there twice")
        found[pattern] = float(number)
    return found


def read_ranks(text: str) -> dict[str, int]:
    """The same for ranks, which are whole numbers from 1 to 1024."""
    found = read_patterns(text)
    for pattern, rank in found.items():
        if rank != int(rank) or not 1 <= rank <= 1024:
            raise ValueError(f"{pattern}={rank:g}: a rank is a whole number from 1 to 1024")
    return {pattern: int(rank) for pattern, rank in found.items()}


def matches(pattern: str, module: str) -> bool:
    """Whether PEFT applies ``pattern`` to the module of that whole name (its get_pattern_key)."""
    return re.match(rf"(.*\.)?({pattern})$", module) is not None
