"""Every byte of an exported model is counted once, in its part."""

import pytest
from test_embedding import ROWS, WIDTH, make

from olivepress.export.graph import load
from olivepress.export.passes.embedding import Embedding
from olivepress.export.passes.sixteen_bits import SixteenBits
from olivepress.export.sizes import bytes_by_part
from olivepress.export.surgery import apply

TABLE, GROUPS = ROWS * WIDTH, ROWS * WIDTH // 32


@pytest.fixture
def folder(tmp_path):
    """What auto-opt writes beside the model."""
    (tmp_path / "tokenizer.json").write_text("{}" * 50)
    (tmp_path / "chat_template.jinja").write_text("x" * 30)
    (tmp_path / "genai_config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("head", "kind", "tied", "expected"),
    [
        # a scale of two bytes and a zero point of one for each group; those of a table of its own have 64 weights
        ("int8", "int8", True, {"embedding": 0, "head": TABLE, "scales": 3 * GROUPS}),
        ("int8", "int8", False, {"embedding": TABLE, "head": TABLE, "scales": 3 * GROUPS + 3 * GROUPS // 2}),
        ("int8", "float", True, {"embedding": 2 * TABLE, "head": TABLE, "scales": 3 * GROUPS}),
        ("float", "float", True, {"embedding": 0, "head": 2 * TABLE, "scales": 0}),
        ("float", "int8", False, {"embedding": TABLE, "head": 2 * TABLE, "scales": 3 * GROUPS // 2}),
    ],
)
def test_the_parts(folder, head, kind, tied, expected):
    path = folder / "model.onnx"
    make(path, head, tied=tied)
    apply(path, Embedding(kind), SixteenBits())
    found = bytes_by_part(folder, load(path).graph)
    files = {file.name: file.stat().st_size for file in folder.iterdir()}
    weights = files.pop("model.onnx.data")
    assert {part: found[part] for part in expected} == expected
    assert sum(expected.values()) == weights
    assert found["tokenizer"] == 130
    assert found["projections"] == 0
    assert found["rest"] == sum(files.values()) - 130


def test_no_tensor_lies_in_the_file_twice(folder):
    """Unless at the very same place: by their bytes all others differ."""
    path = folder / "model.onnx"
    make(path, "int8")
    apply(path, Embedding("int8"), SixteenBits())
    places = {(each.const_value.offset, each.const_value.tobytes()) for each in load(path).graph.initializers.values()}
    assert len({content for _, content in places}) == len(places) == 3
