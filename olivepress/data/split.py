"""Which rows are held out: by content, so that a row keeps its side, and never one of two that are nearly the same.

Rows with one prompt, and rows whose words are nearly the same, are one group, and a group is on one side. Its side is
that of the row in it with the least digest, by the SHA-256 of that row's prompt as a fraction of 1. So rows that are
moved change nothing, and rows that are added change a group only where they join it and bring the least digest along.

Near-duplicates are found by MinHash (Broder 1997; datasketch's) over the words and pairs of words of a row, in bands of
equal hashes (Leskovec et al., Mining of Massive Datasets, 3.4). datasketch's own index of the bands is a dictionary of
Python sets, some gigabytes for a million rows; here the bands are columns that are sorted one at a time.
"""

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.data.formats import Pair, Row

if TYPE_CHECKING:
    import numpy as np

HASHES = 64
BANDS = 16  # of four hashes: rows of which half is the same are looked at, four in five are found for certain
SEED = 1
# What stands without blanks between words counts by the character.
WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\W_]+")
# A group of more than half of all rows is text that all rows share; it cannot be on one side.
LARGEST_SHARE = 0.5
FEW = 4


def prompt_of(row: Row | Pair) -> str:
    """What the user says in a row."""
    messages = row.prompt if isinstance(row, Pair) else row.messages
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def fraction(prompt: str) -> float:
    """A prompt as a number in [0, 1): the SHA-256 of it in lower case with single blanks."""
    return _digest(" ".join(prompt.lower().split())) / 2**64


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


@dataclass(frozen=True)
class Sides:
    """For each row whether it is held out. ``twins``: rows in groups of near-duplicates; ``groups``: how many of these;
    ``apart``: rows of groups too large for one side, which were split by their prompts."""

    held_out: "np.ndarray"
    twins: int
    groups: int
    apart: int


class Splitter:
    """Takes rows one by one, keeps some numbers of each (the hashes in a file in ``folder``), and groups them."""

    def __init__(self, folder: Path, similarity: float) -> None:
        """``similarity``: the Jaccard similarity from which on rows are near-duplicates; 1 looks for none."""
        import xxhash
        from datasketch import MinHash

        self._sketch = MinHash(HASHES, seed=SEED, hashfunc=xxhash.xxh32_intdigest)
        self._similarity = similarity
        self._path = folder / "hashes"
        self._file = self._path.open("wb") if similarity < 1 else None
        self._fractions, self._digests, self._prompts = array("d"), array("Q"), array("Q")

    def add(self, row: Row | Pair) -> None:
        prompt = prompt_of(row)
        answers = row.chosen if isinstance(row, Pair) else [m for m in row.messages if m["role"] == "assistant"]
        words = [_words(text) for text in (prompt, *(message["content"] for message in answers))]
        self._fractions.append(fraction(prompt))
        self._prompts.append(_digest(" ".join(words[0])))
        self._digests.append(_digest(f"{prompt}\0{answers}"))
        if self._file:
            self._file.write(self._hashes(words).astype("<u4").tobytes())

    def _hashes(self, texts: list[list[str]]) -> "np.ndarray":
        parts = {word for words in texts for word in words}
        parts |= {f"{first} {second}" for words in texts for first, second in pairwise(words)}
        self._sketch.clear()
        self._sketch.update_batch([part.encode("utf-8", "surrogatepass") for part in parts])
        return self._sketch.hashvalues

    def sides(self, held_out: float) -> Sides:
        import numpy as np

        count = len(self._fractions)
        alone = np.frombuffer(self._fractions) < held_out
        group = np.arange(count)
        for pairs in _equal(np.frombuffer(self._prompts, np.uint64)):
            group = _joined(group, pairs)
        twins = np.zeros(count, bool)
        # a band at a time: of rows that are all alike the pairs of all bands would take gigabytes
        for pairs in self._near() if self._file else ():
            twins[pairs] = True
            group = _joined(group, pairs)
        sizes = np.bincount(group)
        too_large = (sizes > FEW) & (sizes > LARGEST_SHARE * count)
        order = np.lexsort((np.frombuffer(self._digests, np.uint64), group))
        first = order[np.searchsorted(group[order], np.arange(len(sizes)))]  # of each group the least digest
        sides = np.where(too_large[group], alone, alone[first][group])
        return Sides(sides, int(twins.sum()), len(np.unique(group[twins])), int(sizes[too_large].sum()))

    def _near(self) -> "Iterator[np.ndarray]":
        """Pairs of rows that are near-duplicates, enough of them to connect each group; for each band of hashes."""
        import numpy as np

        self._file.close()
        rows = len(self._fractions)
        if not rows:
            return
        hashes = np.memmap(self._path, "<u4", "r", shape=(rows, HASHES))
        width = HASHES // BANDS
        for band in range(BANDS):
            keys = np.zeros(rows, np.uint64)
            for column in range(band * width, (band + 1) * width):
                keys = keys * np.uint64(0x9E3779B97F4A7C15) + hashes[:, column]
            for pairs in _equal(keys):
                alike = np.zeros(len(pairs), bool)
                for begin in range(0, len(pairs), 2**16):
                    one, other = pairs[begin : begin + 2**16].T
                    alike[begin : begin + 2**16] = (hashes[one] == hashes[other]).mean(axis=1) >= self._similarity
                yield pairs[alike]

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._path.unlink(missing_ok=True)


def _joined(group: "np.ndarray", pairs: "np.ndarray") -> "np.ndarray":
    """The groups of rows after each of ``pairs`` is in one: numbers from zero, of the rows of ``group`` before."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = group.max(initial=-1) + 1
    one, other = group[pairs[:, 0]], group[pairs[:, 1]]
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    return connected_components(graph, directed=False)[1][group]


def _equal(keys: "np.ndarray") -> "Iterator[np.ndarray]":
    """Pairs of rows with the same key: each with the one before it, and with the first."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return
    starts = np.concatenate([[True], ~same])
    first = np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
    later = np.flatnonzero(same) + 1
    yield np.stack([order[later - 1], order[later]], axis=1)
    yield np.stack([order[first[later]], order[later]], axis=1)


def _words(text: str) -> list[str]:
    """The words of a text, or the text itself where it has none."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return WORDS.findall(text) or text.split()
