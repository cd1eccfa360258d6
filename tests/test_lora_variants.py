"""PEFT's patterns for modules: what is taken, and that it is read as PEFT reads it."""

import pytest
from peft.utils.other import get_pattern_key

from olivepress.core.lora_variants import check_pattern, matches, read_patterns, read_ranks

MODULES = ("model.layers.0.self_attn.q_proj", "model.layers.12.mlp.down_proj", "model.layers.1.mlp.gate_up_proj")


@pytest.mark.parametrize(
    "pattern",
    [
        "q_proj",
        "layers.0.self_attn.q_proj",
        r"model\.layers\.\d+\..*down_proj",
        "[qk]_proj",
        "(up|down)_proj",
        ".*proj$",
    ],
)
def test_a_pattern_matches_what_peft_makes_it_match(pattern):
    assert check_pattern(pattern) == pattern
    for module in MODULES:
        assert matches(pattern, module) == (get_pattern_key([pattern], module) == pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|a)*b",
        "(.*)*q",
        ".*.*.*.*.*.*.*q",
        "(a|a)(a|a)(a|a)(a|a)(a|a)q",
        "q{1,9999}",
        "(?=a)q",
        r"\1q",
        "q_proj)(",
        "x" * 201,
        "",
    ],
)
def test_a_pattern_whose_time_is_not_bounded_is_refused(pattern):
    with pytest.raises(ValueError, match=r"expected|pattern|parenthesis|unterminated"):
        check_pattern(pattern)


def test_patterns_keep_their_order_and_ranks_are_whole():
    assert list(read_patterns("v_proj=0.5 , q_proj = 16").items()) == [("v_proj", 0.5), ("q_proj", 16)]
    assert read_ranks("") == {}
    assert read_ranks("q_proj=16") == {"q_proj": 16}
    with pytest.raises(ValueError, match="a rank is a whole number from 1 to 1024"):
        read_ranks("q_proj=1025")
