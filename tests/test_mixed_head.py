"""Head and embedding in two precisions: each token has its own row, the frequent ones theirs in 8 bits."""

import json

import numpy as np
import pytest
from test_embedding import IDS, ROWS, WIDTH, make, nodes, run, table_bytes

from olivepress.core.errors import PressError
from olivepress.export.graph import load
from olivepress.export.passes.embedding import Embedding
from olivepress.export.passes.mixed_head import MixedHead, Rare, rare_tokens
from olivepress.export.passes.sixteen_bits import SixteenBits
from olivepress.export.sizes import bytes_by_part
from olivepress.export.surgery import apply, transform

FREQUENT = 100
LAST = list(range(280, 295))  # control tokens; 295 to 299 belong to no token


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def tokenizer(path, added=()):
    """A tokenizer.json beside the model with these added tokens."""
    file = path.with_name("tokenizer.json")
    file.write_text(json.dumps({"added_tokens": [{"id": number, "content": f"<{number}>"} for number in added]}))
    return file


def mixed(path, added=()) -> Rare:
    cut = MixedHead(tokenizer(path, added), FREQUENT)
    apply(path, cut)
    apply(path, Embedding("mixed", cut.rare), SixteenBits())
    return cut.rare


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("added", "end"), [((), ROWS), ((0, 1), ROWS), (LAST, LAST[0]), ((2, *LAST), LAST[0])])
def test_every_token_has_its_row_and_its_logit(path, added, end, tied):
    table = make(path, "int8", tied=tied)
    _, before = run(path)
    assert mixed(path, added) == Rare(FREQUENT, end)
    rows, logits = run(path)
    rare = (IDS >= FREQUENT) & (end > IDS)
    assert rare.any()
    assert (~rare).any()
    errors = np.abs(rows - table[IDS]).max(axis=-1)  # of numbers up to 4: steps of 1/32, and of 1/2
    assert 0 < errors[~rare].max() < 0.03 < errors[rare].max() < 0.4
    columns = np.r_[0:FREQUENT, end:ROWS]
    some = ~rare.reshape(-1)  # positions whose input is the same to 8 bits
    frequent = np.abs(logits - before).reshape(-1, ROWS)[some][:, columns]
    assert frequent.max() < 0.6 < np.abs(logits - before).reshape(-1, ROWS)[some].max() < 8


def test_what_it_takes(path):
    """A tied head is the embedding, in both of its parts: 8 and 4 bits, a scale and a zero point for each group."""
    make(path, "int8")
    mixed(path)
    rare = ROWS - FREQUENT
    head = FREQUENT * WIDTH + rare * WIDTH // 2
    groups = WIDTH // 32
    scales = FREQUENT * groups * 3 + rare * groups * 2 + rare * groups // 2
    assert table_bytes(path) == head + scales
    found = bytes_by_part(path.parent, load(path).graph)
    assert (found["head"], found["embedding"], found["scales"]) == (head, 0, scales)
    assert {name for name, node in nodes(path).items() if "NBits" in node.op_type or "Quantized" in node.op_type} == {
        f"{start}/{part}"
        for start in ("/lm_head/MatMul", "/model/embed_tokens/GatherBlockQuantized")
        for part in ("frequent", "rare")
    }


def test_an_untied_model_has_two_tables_more(path):
    make(path, "int8", tied=False)
    mixed(path)
    found = bytes_by_part(path.parent, load(path).graph)
    assert found["head"] == found["embedding"] == FREQUENT * WIDTH + (ROWS - FREQUENT) * WIDTH // 2


def test_a_vocabulary_without_rare_tokens_is_refused(path):
    with pytest.raises(PressError, match=r"300 tokens, of which none is rare\. Set lm_head and embedding to int8"):
        rare_tokens(tokenizer(path), ROWS, ROWS)
    make(path, "int8")
    with pytest.raises(PressError, match="none is rare"):  # 8,192 frequent ones are more than there are
        transform(path, "all", embedding="mixed")


def test_a_width_that_the_two_operators_pack_differently_is_refused(path):
    make(path, "int8", width=96)
    with pytest.raises(PressError, match="96 columns, which int4 cannot share"):
        apply(path, MixedHead(tokenizer(path), FREQUENT))
