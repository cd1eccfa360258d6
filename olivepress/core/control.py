"""Control tokens of a model: what stands in a text as, say, ``<|end|>`` and is one token that ends a turn.

In what people write they would be turns that nobody took, in training and in a prompt, so both refuse them.
"""

import re
from collections.abc import Iterable


def pattern_of(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """Finds any of ``tokens`` in a text, the longest where several fit; None if there are none."""
    found = sorted({token for token in tokens if token.strip()}, key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, found))) if found else None


def find(pattern: re.Pattern[str] | None, text: str) -> str | None:
    """The first control token in ``text``."""
    match = pattern.search(text) if pattern else None
    return match[0] if match else None
