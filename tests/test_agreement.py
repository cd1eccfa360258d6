"""When two graphs are said to compute the same."""

import numpy as np
import pytest

from olivepress.core.errors import PressError
from olivepress.runtime.agreement import BOUND, Interview, Said, agreement
from olivepress.runtime.genai import Answer

LOGITS = np.array([3, 4, 0], np.float32)  # of size 5


def said(*answers: tuple[list[int], np.ndarray]) -> Interview:
    return Interview(0, [Said(Answer(tokens=tokens), logits) for tokens, logits in answers])


def test_rounding_is_told_and_let_through():
    near = LOGITS + np.array([0, 0, 5e-3], np.float32)
    found = agreement(said(([1, 2], LOGITS), ([3], LOGITS)), said(([1, 2], LOGITS), ([4], near)))
    assert (found.same, found.answers) == (1, 2)
    assert found.difference == pytest.approx(1e-3)
    assert str(found) == "logits differ by at most 1.0e-03 of their size, 1 of 2 answers have the same tokens"


@pytest.mark.parametrize("wrong", [LOGITS * (1 + 2 * BOUND), np.full(3, np.nan, np.float32), LOGITS[::-1]])
def test_more_than_rounding_is_refused_though_the_tokens_are_the_same(wrong):
    with pytest.raises(PressError, match=r"computes otherwise .*1 of 1 answers .*Set lora_operator: false"):
        agreement(said(([1], LOGITS)), said(([1], wrong)))
