"""Which token comes next: the likeliest, or one that is drawn, among those that a schema allows."""

from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    import llguidance
    import numpy as np

# Search options of genai_config.json that GenAI goes by and this does not: they have to be what changes nothing.
WITHOUT = {"min_length": 0, "no_repeat_ngram_size": 0, "num_beams": 1}


def check_search(config: dict[str, Any], where: str) -> None:
    """PressError if genai_config.json asks for a search that `Chooser` does not make."""
    for key, value in WITHOUT.items():
        found = config.get("search", {}).get(key, value)
        if found != value:
            raise PressError(f"{where}: search.{key} is {found!r}: olivepress serve takes {value} alone.")


class Chooser:
    """The tokens of one answer. ``search``: genai_config.json's, whose repetition_penalty and, where a token is drawn,
    top_k and top_p hold if the request names none, as in GenAI.

    ``temperature`` 0 takes the likeliest, the first of equals. ``matcher``: of a JSON schema.
    """

    def __init__(
        self,
        search: dict[str, Any],
        *,
        temperature: float = 0.0,
        top_p: float | None = None,
        seed: int | None = None,
        matcher: "llguidance.LLMatcher | None" = None,
    ) -> None:
        import numpy as np

        self._penalty: float = search.get("repetition_penalty", 1.0)
        self._temperature = temperature
        self._top_p: float = search.get("top_p", 1.0) if top_p is None else top_p
        self._top_k: int = search.get("top_k", 0)
        # a seed of OpenAI's may be negative, NumPy's may not
        self._random = np.random.default_rng(None if seed is None else seed % 2**64)
        self._matcher = matcher

    def choose(self, logits: "np.ndarray", before: list[int]) -> int:
        """The next token after ``before`` (prompt and answer), by ``logits`` [vocabulary], which it may change."""
        import numpy as np

        if self._penalty != 1:
            seen = np.unique(np.array(before))
            scores = logits[seen]
            logits[seen] = np.where(scores < 0, scores * self._penalty, scores / self._penalty)
        if self._matcher:
            logits[~self._allowed(len(logits))] = -np.inf
        token = int(logits.argmax()) if not self._temperature else self._drawn(logits)
        if self._matcher and not self._matcher.consume_token(token):
            raise PressError(f"the answer cannot go on by its schema: {self._matcher.get_error() or 'no token fits'}")
        return token

    def _allowed(self, vocabulary: int) -> "np.ndarray":
        """[vocabulary] bool."""
        import llguidance.numpy
        import numpy as np

        bits = llguidance.numpy.allocate_token_bitmask(1, vocabulary)
        llguidance.numpy.fill_next_token_bitmask(self._matcher, bits)
        return np.unpackbits(bits.view(np.uint8), bitorder="little")[:vocabulary].astype(bool)

    def _drawn(self, logits: "np.ndarray") -> int:
        """One of the ``top_k`` likeliest, of those the fewest that have ``top_p`` of the probability together."""
        import numpy as np

        count = min(self._top_k or len(logits), len(logits))
        order = np.argpartition(-logits, count - 1)[:count]
        order = order[np.argsort(-logits[order], kind="stable")]
        scores = logits[order].astype(np.float64)
        likely = np.exp((scores - scores[0]) / self._temperature)
        likely /= likely.sum()
        if self._top_p < 1:
            kept = int(np.searchsorted(np.cumsum(likely), self._top_p)) + 1
            order, likely = order[:kept], likely[:kept] / likely[:kept].sum()
        return int(self._random.choice(order, p=likely))
