"""What a search may change, one row a setting, and the combinations that differ in what they make.

Choices come from the schema (olivepress/core/params.py): a setting that it does not have is not searched, one that it
gets is.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from olivepress.core.errors import PressError
from olivepress.core.params import Quantize, Target, problems
from olivepress.core.strict_yaml import Document, Key

Value = str | int | float | bool
Settings = dict[str, Value]  # by a setting's name

EXACT_PARAMETERS = 10**7  # above, AutoAWQ's own bytes take minutes a layer on a CPU


@dataclass(frozen=True)
class Facts:
    """What choices depend on. ``widths``: inputs of the layers; ``calibration``: files that may be calibrated on."""

    params: dict[str, Any]
    target: str
    widths: tuple[int, ...]
    parameters: int
    calibration: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """A row: its name is the key's last part. ``fits``: whether a choice of the schema fits the model and the machine.

    ``files``: its choices are no words of the schema, but the files that ``Facts`` names. One that is a number keeps
    its present value unless others are asked for.
    """

    name: str
    section: type[BaseModel]
    fits: Callable[[Value, Facts], bool] = lambda value, facts: True
    files: bool = False

    def key(self, target: str) -> Key:
        """Where it stands in params.yaml."""
        return ("quantize", self.name) if self.section is Quantize else ("targets", target, self.name)

    def of(self, facts: Facts) -> Value:
        """Its present value: params.yaml's, or the schema's default."""
        section, *rest = self.key(facts.target)
        values = facts.params[section] if len(rest) == 1 else facts.params[section][rest[0]]
        return values.get(self.name, self.section.model_fields[self.name].default)

    def choices(self, facts: Facts) -> list[Value]:
        """Its present value first, then the others that fit."""
        if self.files:
            found: Sequence[Value] = facts.calibration
        else:
            kind = self.section.model_fields[self.name].annotation
            found = (True, False) if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()
        present = self.of(facts)
        return [present, *(value for value in found if value != present and self.fits(value, facts))]


def _exact(value: Value, facts: Facts) -> bool:
    return not value or facts.parameters < EXACT_PARAMETERS or facts.params["quantize"]["device"] == "cuda"


def _group(value: Value, facts: Facts) -> bool:
    return not any(width % int(value) for width in facts.widths)


def _mixed(value: Value, facts: Facts) -> bool:
    return value != "mixed" or facts.parameters >= EXACT_PARAMETERS  # smaller models have no rare tokens


SPACE = (
    Setting("algorithm", Quantize),
    Setting("exact", Quantize, _exact),
    Setting("group_size", Quantize, _group),
    Setting("average_bits", Quantize),
    Setting("distill_steps", Quantize),
    Setting("calibration_data", Quantize, files=True),
    Setting("lm_head", Target, _mixed),
    Setting("embedding", Target, _mixed),
)
# Where a setting changes nothing; there it keeps its present value, so that nothing is made twice.
IDLE: dict[str, Callable[[Settings], bool]] = {
    "exact": lambda settings: settings["algorithm"] != "awq",
    # rtn and kquant look at weights alone
    "calibration_data": lambda settings: (
        settings["algorithm"] in ("rtn", "kquant") and not settings.get("distill_steps")
    ),
}


@dataclass(frozen=True)
class Space:
    """The settings that this schema has, each with its choices, the present one first."""

    facts: Facts
    choices: dict[str, list[Value]]

    @property
    def present(self) -> Settings:
        """What params.yaml says."""
        return {setting.name: setting.of(self.facts) for setting in known()}

    def canonical(self, settings: Settings) -> Settings:
        """The same without what changes nothing: what IDLE names gets its first choice."""
        return {
            name: self.choices[name][0] if name in IDLE and IDLE[name](settings) else value
            for name, value in settings.items()
        }

    def combinations(self, seed: int) -> list[Settings]:
        """Each that makes something else and fits the schema: the present one first, the others shuffled.

        Shuffled, so that a search that its budget ends has looked everywhere.
        """
        found: dict[tuple, Settings] = {}
        for values in product(*self.choices.values()):
            settings = self.canonical(dict(zip(self.choices, values, strict=True)))
            if self._fits_schema(settings):
                found.setdefault(tuple(settings.items()), settings)
        present = self.canonical(self.present)
        first = [settings for settings in found.values() if settings == present]
        rest = [settings for settings in found.values() if settings != present]
        random.Random(seed).shuffle(rest)
        return [*first, *rest]

    def params(self, settings: Settings) -> dict[str, Any]:
        """params.yaml's values under ``settings``."""
        changed = _copied(self.facts.params)
        for key, value in self.keys(settings):
            place = changed
            for part in key[:-1]:
                place = place[part]
            place[key[-1]] = value
        return changed

    def keys(self, settings: Settings) -> Iterator[tuple[Key, Value]]:
        """(key of params.yaml, value) of each setting."""
        for setting in known():
            yield setting.key(self.facts.target), settings[setting.name]

    def _fits_schema(self, settings: Settings) -> bool:
        return not problems(Document(Path("params.yaml"), self.params(settings), {}, []))


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) if isinstance(value, dict) else value for name, value in values.items()}


def known() -> list[Setting]:
    """The rows of SPACE that the schema has."""
    return [setting for setting in SPACE if setting.name in setting.section.model_fields]


def space_of(facts: Facts, only: dict[str, list[str]]) -> Space:
    """What is searched. ``only``: a setting's name -> the values that it may take, as they are written.

    PressError for a setting or a value that there is none of.
    """
    names = [setting.name for setting in known()]
    for name in only:
        if name not in names:
            raise PressError(f"--set {name}: no such setting (there: {', '.join(names)}).")
    choices = {}
    for setting in known():
        there = setting.choices(
            replace(facts, calibration=tuple(only[setting.name])) if setting.files and setting.name in only else facts
        )
        asked = only.get(setting.name)
        if asked is None:
            choices[setting.name] = there
        elif (kind := setting.section.model_fields[setting.name].annotation) in (int, float):
            choices[setting.name] = [_number(setting.name, text, kind) for text in asked]
        else:
            choices[setting.name] = [_value(setting.name, text, there) for text in asked]
    return Space(facts, choices)


def _value(name: str, text: str, choices: list[Value]) -> Value:
    for choice in choices:
        if str(choice).casefold() == text.casefold():
            return choice
    there = ", ".join(str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices)
    raise PressError(f"--set {name}={text}: expected of {there} (what the schema has and fits this model).")


def _number(name: str, text: str, kind: type[int] | type[float]) -> Value:
    try:
        return kind(text)
    except ValueError as error:
        expected = "a whole number" if kind is int else "a number"
        raise PressError(f"--set {name}={text}: expected {expected}.") from error


def short(settings: Settings) -> str:
    """Settings in a line: "awq exact, group 32, calibration, head int8"."""
    algorithm = str(settings["algorithm"])
    if algorithm == "awq" and settings["exact"]:
        algorithm = "awq exact"
    parts = [algorithm, f"group {settings['group_size']}"]
    if settings.get("average_bits"):
        parts.append(f"average {settings['average_bits']} bits")
    if settings.get("distill_steps"):
        parts.append(f"{settings['distill_steps']} steps of distillation")
    if not IDLE["calibration_data"](settings):
        parts.append(Path(str(settings["calibration_data"])).stem)
    parts.append(f"head {settings['lm_head']}")
    if "embedding" in settings:
        parts.append(f"embedding {settings['embedding']}")
    return ", ".join(parts)
