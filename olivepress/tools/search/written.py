"""The choice as a profile: what differs from the profile that the search began with, and the reasons as comments."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.core.params import NAME
from olivepress.tools.search.choice import Candidate, Limits, Prefer, misses
from olivepress.tools.search.space import Space, Value, short

MARK = "# Written by `olivepress search`"
OTHERS = 3  # trials that are named beside the choice
WORDS = {"smallest": "the smallest", "fastest": "the fastest", "best": "the one that loses least"}


def check_free(folder: Path, name: str, *, force: bool) -> None:
    """PressError where a profile of that name stands in ``folder`` that no search wrote, or that is no name."""
    path = folder / f"{name}.yaml"
    if not NAME.fullmatch(name):
        raise PressError(f"--name {name!r}: expected letters, digits, '.', '_' and '-', at most 64.")
    if path.exists() and not force and MARK not in path.read_text(encoding="utf-8"):
        raise PressError(
            f"{path.name}: there already, and no search wrote it. Choose another --name, or write over it with --force."
        )


def figures(candidate: Candidate) -> str:
    """Loss, size and speed in a line."""
    trial, speed = candidate.trial, candidate.speed
    text = f"loss {trial.loss:+.4f} ({trial.low:+.4f} to {trial.high:+.4f}), {trial.megabytes:.1f} MB"
    return text + (f", {speed.value:.0f} tokens a second" if speed else "")


def limits_in_words(limits: Limits) -> str:
    """The limits as a person would say them."""
    parts = (
        (limits.max_loss_increase, "a loss increase of at most {:g} nats a token of the answers"),
        (limits.max_megabytes, "at most {:g} MB"),
        (limits.min_tokens_per_second, "at least {:g} tokens a second"),
    )
    return ", ".join(text.format(value) for value, text in parts if value is not None)


def render(
    name: str,
    base: str,
    space: Space,
    chosen: Candidate,
    candidates: Sequence[Candidate],
    limits: Limits,
    prefer: Prefer,
) -> str:
    """The profile's text."""
    others = sorted((each for each in candidates if each is not chosen), key=lambda each: each.trial.bytes)
    smaller = [each for each in others if each.trial.bytes < chosen.trial.bytes and misses(each, limits)]
    present = [each for each in others if each.trial.settings == space.canonical(space.present)]
    lines = [
        "# @package _global_",
        f"# make repro PROFILE={name}",
        "#",
        f"{MARK} over profile {base}: {WORDS[prefer]} of {len(candidates)} trials that holds",
        f"# {limits_in_words(limits)},",
        "# the whole 95 % interval of the loss and the slowest round of the speed included. It has",
        f"#   {figures(chosen)}",
        *(f"# {base} itself has\n#   {figures(each)}" for each in present),
        *(["# Smaller ones, and what they miss:"] if smaller else []),
        *(f"#   {short(each.trial.settings)}: {misses(each, limits)[0].text}" for each in smaller[-OTHERS:]),
        "# The loss is that of ONNX Runtime with the quantized base less the float base's: general data, no adapter.",
        "defaults:",
        f"  - {base}",
        "  - _self_",
        "",
        "quantize:",
        *_section(space, chosen, candidates, "quantize"),
        "",
        "targets:",
        f"  {yaml.safe_dump(space.facts.target).splitlines()[0]}:",
        *(f"  {line}" for line in _section(space, chosen, candidates, "targets")),
    ]
    return "\n".join(lines) + "\n"


def _section(space: Space, chosen: Candidate, candidates: Sequence[Candidate], section: str) -> list[str]:
    """A line a setting: its value, and what the trials that differ in it alone came to."""
    found = []
    for key, value in space.keys(chosen.trial.settings):
        if key[0] == section:
            reasons = _instead(str(key[-1]), chosen, candidates)
            comment = f"  # {'; '.join(reasons)}" if reasons else ""
            found.append(f"  {key[-1]}: {_scalar(value)}{comment}")
    return found


def _instead(name: str, chosen: Candidate, candidates: Sequence[Candidate]) -> list[str]:
    mine = chosen.trial.settings
    return [
        f"{_scalar(each.trial.settings[name])}: {each.trial.megabytes:.1f} MB, loss {each.trial.loss:+.4f}"
        for each in candidates
        if {key for key, value in each.trial.settings.items() if value != mine[key]} == {name}
    ][:OTHERS]


def _scalar(value: Value) -> str:
    return yaml.safe_dump(value, width=10**6).splitlines()[0]


def write(path: Path, text: str) -> None:
    """Write the profile, whole or not at all."""
    with atomic_output(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
