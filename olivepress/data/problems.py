"""What is wrong with rows, gathered: all of it is said at once, the first twenty with their places."""

import re
from bisect import insort
from dataclasses import dataclass, field

from olivepress.core.errors import PressError

SHOWN = 20
PLACE = re.compile(r"(?P<file>.*?)(?P<number>\d*)$", re.S)
FILE_BITS = 40


@dataclass
class Places:
    """Places of rows (file:line) as numbers, in the order in which their files were met first."""

    _files: dict[str, int] = field(default_factory=dict)

    def pack(self, where: str) -> int:
        match = PLACE.match(where)
        return self._files.setdefault(match["file"], len(self._files)) << FILE_BITS | int(match["number"] or 0)

    def unpack(self, place: int) -> str:
        file, number = divmod(place, 1 << FILE_BITS)
        return f"{list(self._files)[file]}{number or ''}"


@dataclass
class Problems:
    """The problems of one data set, which ``name`` names."""

    name: str
    count: int = 0
    places: Places = field(default_factory=Places)
    _first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, where: str, what: object) -> None:
        """A row's. They may come out of order."""
        self.count += 1
        insort(self._first, (self.places.pack(where), f"{where}: {what}"))
        del self._first[SHOWN:]

    @property
    def shown(self) -> list[str]:
        """The first ones, by place."""
        return [text for _, text in self._first]

    def raise_any(self) -> None:
        """PressError with all of them; nothing if there are none."""
        if not self.count:
            return
        if self.count == 1:
            raise PressError(self.shown[0])
        lines = [f"{self.name}: {self.count:,} rows cannot be used:", *self.shown]
        if self.count > SHOWN:
            lines.append(f"and {self.count - SHOWN:,} more.")
        raise PressError("\n  ".join(lines))
