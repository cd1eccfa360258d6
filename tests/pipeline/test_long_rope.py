"""A long-RoPE Phi-3 by the real builder: our Slice decodes as its If does, across the length where tables change."""

import json
from pathlib import Path

import pytest
from tiny_models import genai_greedy, random_blocks

from benchmarks import models
from olivepress.core.artifact import MODEL
from olivepress.export.model_builder import Target, export
from olivepress.export.passes.rotary_caches import RotaryCaches
from olivepress.export.passes.rotary_frequencies import RotaryFrequencies
from olivepress.export.surgery import apply

ROOT = Path(__file__).parents[2]
TARGET = Target("CPUExecutionProvider", "int4", "float", "float32")
IDS = random_blocks(1, 24, seed=1)[0]
NEW_TOKENS = 64


def make(folder: Path, original: int) -> Path:
    """An int4 checkpoint of the tiny preset, its factors long from ``original`` positions on."""
    config = json.loads((ROOT / "tools/random-configs/phi-3-tiny.json").read_text())
    size = config["hidden_size"] // config["num_attention_heads"] // 2
    config["original_max_position_embeddings"] = original
    factors = {"short_factor": [1.0] * size, "long_factor": [1 + n / 4 for n in range(size)]}
    config["rope_scaling"] = {"type": "longrope", **factors}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    models.make_float(folder / "config.json", folder / "float")
    models.make_int4(folder / "float", folder / "int4", group=32)
    return folder / "int4"


@pytest.mark.parametrize("original", [64, 16], ids=["crossed while decoding", "long from the start"])
def test_the_slice_decodes_what_the_if_decodes(tmp_path, original):
    """64 tokens after 24: the 41st is the first beyond 64 positions."""
    quantized = make(tmp_path / "made", original)
    export(quantized, tmp_path / "onnx", TARGET)
    theirs = genai_greedy(tmp_path / "onnx", None, IDS, NEW_TOKENS)
    model = apply(tmp_path / "onnx" / MODEL, RotaryCaches(), RotaryFrequencies())
    assert not any(
        name.startswith(("cos_cache_", "sin_cache_")) and "/" not in name for name in model.graph.initializers
    )
    assert genai_greedy(tmp_path / "onnx", None, IDS, NEW_TOKENS) == theirs
    assert len(theirs) == NEW_TOKENS


def test_the_tables_matter(tmp_path):
    """Or else the test above would compare nothing."""
    found = []
    for original in (64, 16):
        export(make(tmp_path / f"made-{original}", original), tmp_path / f"onnx-{original}", TARGET)
        found.append(genai_greedy(tmp_path / f"onnx-{original}", None, IDS, NEW_TOKENS))
    assert found[0][:40] != found[1][:40]
