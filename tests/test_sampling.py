"""The options of an answer, and the texts that end it."""

import pytest

from olivepress.core.errors import PressError
from olivepress.runtime.sampling import Sampling, StopText


def test_greedy_by_default():
    assert Sampling().search_options() == {"do_sample": False}


def test_what_is_given_reaches_genai_and_what_is_not_stays_the_models():
    options = Sampling.of({"temperature": 0.7, "top_p": 0.9, "top_k": 40, "seed": 3, "repetition_penalty": 1.2})
    assert options.search_options() == {
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "random_seed": 3,
        "repetition_penalty": 1.2,
    }
    assert Sampling(temperature=1).search_options() == {"do_sample": True, "temperature": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: 0: expected a whole number, at least 1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens: 2.5: expected a whole number"),
        ({"max_new_tokens": None}, "max_new_tokens: None: expected"),
        ({"temperature": -0.1}, "temperature: -0.1: expected a number, at least 0"),
        ({"temperature": float("nan")}, "temperature: nan"),
        ({"temperature": "hot"}, "temperature: 'hot'"),
        ({"temperature": True}, "temperature: True"),
        ({"temperature": 1, "top_p": 0}, "top_p: 0: expected a number, above 0 and at most 1"),
        ({"temperature": 1, "top_p": 1.1}, "top_p: 1.1"),
        ({"temperature": 1, "top_k": 0}, "top_k: 0: expected a whole number, at least 1"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": 2**31}, "seed: 2147483648"),
        ({"repetition_penalty": 0}, "repetition_penalty: 0: expected a number, above 0"),
        ({"stop": [""]}, "stop: ['']: expected texts, none of them empty"),
        ({"stop": [3]}, "stop: [3]"),
        ({"stop": 3}, "stop: 3: expected texts"),
        ({"top_p": 0.5}, "nothing is drawn at temperature 0"),
        ({"tempature": 1}, "no option 'tempature' of an answer (there: max_new_tokens, temperature, top_p"),
    ],
)
def test_a_bad_option_is_named(options, words):
    with pytest.raises(PressError) as caught:
        Sampling.of(options)
    assert words in caught.value.message


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", "three", "one two "),
        ("one two three", ["four"], "one two three"),
        ("one two thr", ["three"], "one two thr"),  # held back, and given at the end
        ("aab", ["ab"], "a"),
        ("aaab", ["aab", "b"], "a"),
        ("a", [], "a"),
    ],
)
def test_stop_texts_across_pieces(text, stop, shown, size):
    through = StopText(Sampling(stop=stop).stop)
    found = ""
    for start in range(0, len(text), size):
        found += through.passed(text[start : start + size])
        assert shown.startswith(found), "shown too early"
        if through.reached:
            break
    assert found + through.rest() == shown
    assert through.reached == (shown != text)
