"""How the tokens of an answer are chosen, and where it ends."""

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from olivepress.core.errors import PressError


@dataclass(frozen=True)
class Sampling:
    """The options of one answer. The defaults are greedy: the same prompt always gives the same answer.

    ``max_new_tokens``: the longest answer. ``temperature``: 0 takes the likeliest token; above 0 a token is drawn, at 1
    by the model's own probabilities. ``top_p``, ``top_k``: draw among the likeliest only, those that make up this
    probability (0 to 1), this many; None leaves the model's own settings. ``seed``: of the draw; None draws anew each
    time. ``repetition_penalty``: above 1, tokens that were there before become less likely. ``stop``: texts that end
    the answer, and are not part of it.

    Raises PressError for a value that is of the wrong type or out of range.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    repetition_penalty: float | None = None
    stop: str | Collection[str] = ()

    def __post_init__(self) -> None:
        self._check("max_new_tokens", int, 1, math.inf)
        self._check("temperature", float, 0, math.inf)
        self._check("top_p", float, 0, 1, above=True)
        self._check("top_k", int, 1, math.inf)
        self._check("seed", int, 0, 2**31 - 1)
        self._check("repetition_penalty", float, 0, math.inf, above=True)
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop
        if not isinstance(stop, Collection) or not all(isinstance(text, str) and text for text in stop):
            raise PressError(f"stop: {self.stop!r}: expected texts, none of them empty.")
        object.__setattr__(self, "stop", tuple(stop))
        if not self.temperature and (self.top_p is not None or self.top_k is not None):
            raise PressError("top_p, top_k: nothing is drawn at temperature 0. Give a temperature, or leave them out.")

    def _check(self, name: str, kind: type, lowest: float, highest: float, *, above: bool = False) -> None:
        """PressError unless the option is unset or a finite ``kind`` within bounds, ``above``: not ``lowest``."""
        value = getattr(self, name)
        if value is None and name not in ("max_new_tokens", "temperature"):
            return
        number = isinstance(value, (int, kind)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not lowest <= value <= highest or (above and value == lowest):
            least = f"above {lowest}" if above else f"at least {lowest}"
            most = f" and at most {highest}" if math.isfinite(highest) else ""
            whole = "a whole number" if kind is int else "a number"
            raise PressError(f"{name}: {value!r}: expected {whole}, {least}{most}.")

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Sampling":
        """From keyword arguments; PressError for one that does not exist names those that do."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise PressError(f"no option {name!r} of an answer (there: {', '.join(known)}).")
        return cls(**options)

    def search_options(self) -> dict[str, Any]:
        """The same as GenAI names them, but for the lengths."""
        found: dict[str, Any] = {"do_sample": self.temperature > 0}
        if self.temperature > 0:
            drawn = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
            found |= {**drawn, "random_seed": self.seed}
        found["repetition_penalty"] = self.repetition_penalty
        return {name: value for name, value in found.items() if value is not None}


class StopText:
    """Lets text through up to the first of ``stop``, and holds back what may be the beginning of one."""

    def __init__(self, stop: Collection[str]) -> None:
        self._stop = stop
        self._held = ""
        self.reached = False

    def passed(self, piece: str) -> str:
        """What of the text so far, ``piece`` included, can be shown now and was not yet."""
        self._held += piece
        places = [place for text in self._stop if (place := self._held.find(text)) >= 0]
        if places:
            self.reached = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        beginnings = (text[:length] for text in self._stop for length in range(1, len(text)))
        held = max((len(text) for text in beginnings if self._held.endswith(text)), default=0)
        shown, self._held = self._held[: len(self._held) - held], self._held[len(self._held) - held :]
        return shown

    def rest(self) -> str:
        """What was held back and, as the answer has ended, is part of it."""
        held, self._held = self._held, ""
        return held
