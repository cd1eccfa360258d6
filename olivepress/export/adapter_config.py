"""adapter_config.json of a PEFT adapter from anywhere: held to what each key can be, and to what can be exported."""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from olivepress.core.errors import PressError
from olivepress.core.json_file import load_object
from olivepress.core.lora_variants import REFUSED, check_pattern, matches

CONFIG = "adapter_config.json"
LARGEST = 2**20
MOST = 2**16  # patterns, or layers
# Starts that leave the base's weights as they are (PEFT's others subtract the adapter's first product from them).
STARTS = (True, False, None, "gaussian", "orthogonal", "eva")


def read_adapter_config(path: Path) -> dict[str, Any]:
    """The configuration; PressError names the key that is malformed, or that plain LoRA has no place for."""
    config = load_object(path, LARGEST)
    if config.get("peft_type") != "LORA":
        raise PressError(f"{path}: peft_type is {_shown(config.get('peft_type'))}; only LORA can be converted.")
    for key, (good, expected) in KINDS.items():
        if config.get(key) is not None and not good(config[key]):
            raise PressError(f"{path}: {key} is {_shown(config[key])}, expected {expected}. Train or fetch it again.")
    _check_plain(path, config)
    for key in ("r", "lora_alpha"):
        if config.get(key) is None:
            raise PressError(f"{path}: {key} is not there, and without it nobody knows the adapter's scale.")
    try:
        for key in PATTERNS:
            for pattern in config.get(key) or {}:
                check_pattern(pattern)
    except ValueError as error:
        raise PressError(f"{path}: {key}: {error}.") from error
    return config


def _check_plain(path: Path, config: dict[str, Any]) -> None:
    """PressError for anything that makes an adapter compute more than B A x times a scale, for every token."""
    for key, value in config.items():
        if key in REFUSED and key != "bias" and (value if key in MAY_BE_EMPTY else value not in (None, False)):
            raise PressError(
                f"{path}: {key} is set; the ONNX graph has inputs for plain LoRA matrices only. {REFUSED[key]}."
            )
        if value and key not in KNOWN and key not in REFUSED:
            raise PressError(f"{path}: {ascii(key[:80])[1:-1]} is set; what it does to an adapter is not known here.")
    if config.get("bias") not in (None, "none"):
        raise PressError(f"{path}: bias is {_shown(config['bias'])}; the ONNX graph has no input for biases.")
    start = config.get("init_lora_weights", True)
    if not isinstance(start, bool | str | None) or start not in STARTS:
        raise PressError(
            f"{path}: init_lora_weights is {_shown(start)}, which changes the base's weights: the "
            "adapter is right over that changed base only. Train it with init_lora_weights true."
        )


def passed_over(config: dict[str, Any], module: str, layer: int) -> str | None:
    """The key by which PEFT does not adapt the module of that whole name, and passes over its weights; None if it does.

    Of an expression that is not simple nothing is said.
    """
    layers = config.get("layers_to_transform")
    if layers not in (None, []) and layer not in (layers if isinstance(layers, list) else [layers]):
        return "layers_to_transform"
    targets, excluded = config.get("target_modules"), config.get("exclude_modules")
    if targets not in (None, [], "all-linear") and _names(targets, module) is False:
        return "target_modules"
    return "exclude_modules" if excluded and _names(excluded, module) else None


def _names(value: str | list[str], module: str) -> bool | None:
    """Whether PEFT's value, a list of names or an expression for a whole one, names the module; None: unknown here."""
    if isinstance(value, list):
        return any(module == name or module.endswith(f".{name}") for name in value)
    try:
        return re.fullmatch(check_pattern(value), module) is not None
    except ValueError:
        return None


def missing(config: dict[str, Any], adapted: Iterable[tuple[int, str]], layers: set[int]) -> tuple[int, str] | None:
    """(layer, module) of the first projection that the configuration adapts and that has no weights; None if all have.

    ``adapted``: those that have; ``layers``: of the model. Where the configuration names modules by an expression, or
    leaves some out, nothing is said.
    """
    targets = config.get("target_modules")
    if not isinstance(targets, list) or any("." in name for name in targets):
        return None
    if any(config.get(key) not in (None, [], "") for key in ("layers_to_transform", "exclude_modules")):
        return None
    there = set(adapted)
    names = {name for _, name in there}
    return next(
        ((layer, name) for layer in sorted(layers) for name in sorted(names) if (layer, name) not in there), None
    )


def rank_of(config: dict[str, Any], module: str) -> int:
    """The rank that PEFT gives to the module of that whole name."""
    return _by_pattern(config, "rank_pattern", module, config["r"])


def scale_of(config: dict[str, Any], module: str) -> float:
    """alpha / rank, or alpha / sqrt(rank) for rsLoRA (arXiv:2312.03732)."""
    rank = rank_of(config, module)
    alpha = _by_pattern(config, "alpha_pattern", module, config["lora_alpha"])
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _by_pattern(config: dict[str, Any], key: str, module: str, otherwise: Any) -> Any:
    """The value of the first pattern that matches, as PEFT's get_pattern_key."""
    patterns = (config.get(key) or {}).items()
    return next((value for pattern, value in patterns if matches(pattern, module)), otherwise)


def _shown(value: Any) -> str:
    return f"{value!r:.80}" if not isinstance(value, str) else repr(value[:80])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST


def _are_names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _are_layers(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= MOST for one in values)


def _patterns(good: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and len(value) <= MOST and all(map(good, value.values()))


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


PATTERNS = ("rank_pattern", "alpha_pattern")
# Those of REFUSED that do nothing when they are empty. An empty list of invocation tokens is aLoRA, too.
MAY_BE_EMPTY = ("modules_to_save", "target_parameters", "layer_replication", "trainable_token_indices")
# Key -> whether a value can be one of it, and what it should be. None is always the key's default.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "r": (_is_rank, f"a whole number from 1 to {MOST:,}"),
    "lora_alpha": (_is_number, "a number"),
    "task_type": (lambda value: value == "CAUSAL_LM", "CAUSAL_LM: it was trained for something else"),
    "lora_dropout": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "rank_pattern": (_patterns(_is_rank), "an object of patterns and ranks"),
    "alpha_pattern": (_patterns(_is_number), "an object of patterns and numbers"),
    **dict.fromkeys(("target_modules", "exclude_modules", "layers_pattern"), (_are_names, "names of modules")),
    "layers_to_transform": (_are_layers, "numbers of layers"),
    **dict.fromkeys(("base_model_name_or_path", "revision"), (lambda value: isinstance(value, str), "text")),
    **dict.fromkeys(("use_rslora", "use_dora", "fan_in_fan_out", "inference_mode"), (_is_switch, "true or false")),
    **dict.fromkeys(("use_qalora", "lora_bias", "ensure_weight_tying"), (_is_switch, "true or false")),
}
# Keys that say how an adapter was trained, or that are read above.
KNOWN = {
    *KINDS,
    *("auto_mapping", "bias", "corda_config", "eva_config", "init_lora_weights", "loftq_config", "lora_ga_config"),
    *("megatron_core", "peft_type", "peft_version", "qalora_group_size", "runtime_config"),
    "velora_config",
}
