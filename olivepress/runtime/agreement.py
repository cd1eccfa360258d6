"""Whether a folder's graph with native operators computes what its portable one does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from olivepress.core.errors import PressError

if TYPE_CHECKING:
    import numpy as np

    from olivepress.runtime.genai import Answer, Model

# Of the logits' size. Activations are rounded to int8, so what rounds otherwise somewhere moves a step there: 0.01 was
# seen on the embedded base, 0.05 on SmolLM2, and 0.26 and more of operators that compute something else.
BOUND = 0.15


@dataclass(frozen=True)
class Said:
    """What one graph made of a prompt: its answer, and the logits [vocabulary] after the reference's answer."""

    answer: "Answer"
    logits: "np.ndarray"


@dataclass(frozen=True)
class Interview:
    """What one graph said to every question: half of them without an adapter, then the same with one."""

    load_seconds: float
    said: list[Said]

    @property
    def answers(self) -> "tuple[list[Answer], list[Answer]]":
        """Those without the adapter, those with it."""
        every = [each.answer for each in self.said]
        return every[: len(every) // 2], every[len(every) // 2 :]


@dataclass(frozen=True)
class Agreement:
    """The largest difference of logits, by their size, and how many of the answers have the same tokens."""

    difference: float
    same: int
    answers: int

    def __str__(self) -> str:
        return (
            f"logits differ by at most {self.difference:.1e} of their size, {self.same} of {self.answers} answers have "
            "the same tokens"
        )


def interview(
    model: "Model",
    asked: Sequence[tuple[str | None, str]],
    ask: "Callable[[Model, str, str | None], Answer]",
    reference: Interview | None = None,
) -> Interview:
    """``asked`` is (adapter, prompt); the logits are those after the answers of ``reference``, or after its own."""
    said = []
    for number, (adapter, prompt) in enumerate(asked):
        answer = ask(model, prompt, adapter)
        before = reference.said[number].answer if reference else answer
        ids = [*model.encode(model.render(prompt)).tolist(), *before.tokens[:-1]]
        said.append(Said(answer, model.logits(ids, adapter)))
    return Interview(model.load_seconds, said)


def agreement(reference: Interview, other: Interview) -> Agreement:
    """How far ``other`` is from ``reference``; PressError where that is more than rounding.

    Tokens alone are not held to be the same: where two are nearly as likely, rounding decides.
    """
    import numpy as np

    pairs = list(zip(reference.said, other.said, strict=True))
    difference = max(float(np.linalg.norm(b.logits - a.logits) / np.linalg.norm(a.logits)) for a, b in pairs)
    found = Agreement(difference, sum(a.answer.tokens == b.answer.tokens for a, b in pairs), len(pairs))
    if not difference <= BOUND:  # NaN is not
        raise PressError(
            f"the graph with native operators computes otherwise than the portable one: {found}; at most {BOUND} is "
            "rounding. Set lora_operator: false for this target, and report the model."
        )
    return found
