"""How auto-opt judges the logits of an exported graph: at which places they may be off, and by how much."""

import numpy as np
import pytest

from olivepress.export.check import FEW_PLACES, RELATIVE, error_but_the_worst, relative_error

RNG = np.random.default_rng(0)
PLACES = list(range(2 * FEW_PLACES))


@pytest.fixture
def expected() -> np.ndarray:
    return RNG.normal(size=(2 * FEW_PLACES, 50)).astype(np.float32)


def test_rounding_may_turn_one_place_over_and_not_two(expected):
    found = expected + 0.02 * RNG.normal(size=expected.shape).astype(np.float32)
    found[3] = -expected[3]
    assert relative_error(found, expected) > RELATIVE
    assert error_but_the_worst(found, expected, PLACES) < 0.1
    found[5] = -expected[5]
    assert error_but_the_worst(found, expected, [0, 1, 2, 3, 4, 3, *PLACES[6:]]) < 0.1  # twice the same place
    assert error_but_the_worst(found, expected, PLACES) > RELATIVE


def test_what_is_off_everywhere_stays_so(expected):
    assert error_but_the_worst(1.4 * expected, expected, PLACES) == pytest.approx(0.4, abs=1e-5)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_number_that_is_none_is_no_rounding(expected, odd):
    found = expected.copy()
    found[3, 7] = odd
    assert not error_but_the_worst(found, expected, PLACES) <= RELATIVE


def test_of_few_places_none_is_left_out(expected):
    found = expected[: FEW_PLACES - 1].copy()
    found[0] = -found[0]
    assert error_but_the_worst(found, expected[: FEW_PLACES - 1], PLACES[: FEW_PLACES - 1]) > RELATIVE
