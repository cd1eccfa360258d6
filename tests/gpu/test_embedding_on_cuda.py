"""The embedding in each form on a GPU: looked up there, with the rows that ONNX Runtime has on a CPU."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from test_embedding import HALF, IDS, make, nodes

from olivepress.export.model_builder import HEADS
from olivepress.export.passes.embedding import Embedding
from olivepress.export.passes.sixteen_bits import SixteenBits
from olivepress.export.surgery import apply

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
GATHERS = ("Gather", "GatherBlockQuantized")


@pytest.mark.parametrize("kind", ["float", "int8", "int4"])  # mixed has a graph of its own: test_mixed_head.py
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("head", HEADS)
def test_its_rows_come_from_the_gpu_and_are_those_of_a_cpu(tmp_path, head, tied, kind):
    path = tmp_path / "model.onnx"
    make(path, head, tied=tied, dtype=HALF)
    apply(path, Embedding(kind), SixteenBits())
    (lookup,) = [node for node in nodes(path).values() if node.op_type in GATHERS]
    assert lookup.op_type == GATHERS[kind != "float"]
    rows, logits, _ = run(path, CPU)
    found_rows, found_logits, providers = run(path, CUDA)
    assert providers[lookup.name] == CUDA
    np.testing.assert_allclose(found_rows.astype(np.float32), rows.astype(np.float32), rtol=2e-3)
    assert np.linalg.norm(found_logits - logits) / np.linalg.norm(logits) < 1e-2


def run(path: Path, provider: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The rows of IDS, their logits (float32), and the execution provider of each node by ONNX Runtime's profile."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(path.with_name(provider))
    session = onnxruntime.InferenceSession(path, options, providers=[provider])
    rows, logits = session.run(["rows", "logits"], {"input_ids": IDS})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    ran = {
        event["name"].removesuffix("_kernel_time"): event["args"]["provider"]
        for event in events
        if event["name"].endswith("_kernel_time")
    }
    return rows, logits.astype(np.float32), ran
