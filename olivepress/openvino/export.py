"""A quantized checkpoint as an OpenVINO model: the graph by optimum-intel, the integers the checkpoint's own."""

import json
import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.checkpoint import carry_licence
from olivepress.core.end_tokens import end_tokens
from olivepress.core.errors import PressError, first_sentence
from olivepress.core.lacks import lack
from olivepress.core.outputs import sizes
from olivepress.core.tokenizer import load_tokenizer
from olivepress.modeling.dequantize import load_model
from olivepress.openvino.graph import MODEL
from olivepress.openvino.tokenizer import check_tokenizer, export_tokenizer
from olivepress.openvino.weights import check_weights, put_weights

if TYPE_CHECKING:
    import openvino

TASK = "text-generation-with-past"
FLOAT = "float"  # where the graph lies before it has its integers


def export(
    checkpoint: Path, out: Path, texts: Sequence[str], *, chat: bool = True, trust_remote_code: bool = False
) -> dict[str, Any]:
    """Write model, tokenizer and configuration to the folder ``out``, which openvino_genai.LLMPipeline loads.

    The graph is traced from the dequantized model (float32, which needs four bytes of memory a weight), and its
    weights are replaced by the checkpoint's integers; embedding and head, which the checkpoint has as floats, get int8
    by row from NNCF. ``texts``: compared token by token, as `check_tokenizer` does; ``chat``: its template, too.
    Returns what was written: layers by their bits, how many of them were found equal bit by bit, texts, bytes.
    """
    import openvino

    tokenizer = load_tokenizer(checkpoint, trust_remote_code=trust_remote_code)
    out.mkdir(parents=True)
    scratch = out / FLOAT
    _trace(checkpoint, scratch, trust_remote_code=trust_remote_code)
    graph = openvino.Core().read_model(scratch / MODEL)
    layers = put_weights(graph, checkpoint)
    openvino.save_model(_compress_rest(graph), out / MODEL, compress_to_fp16=False)
    del graph  # it reads the files that go
    shutil.copyfile(scratch / "config.json", out / "config.json")
    shutil.rmtree(scratch)
    _write_generation(checkpoint, out, end_tokens(checkpoint, tokenizer))
    export_tokenizer(checkpoint, tokenizer, out)
    carry_licence(checkpoint, out)
    return {
        "openvino": openvino.__version__,
        "layers": layers,
        "layers_equal_to_the_bit": check_weights(out / MODEL, checkpoint),
        "texts_read_alike": check_tokenizer(out, tokenizer, texts, chat=chat),
        "bytes": sum(sizes(out).values()),
    }


def _trace(checkpoint: Path, out: Path, *, trust_remote_code: bool) -> None:
    """The float32 graph, with its cache as state; PressError for an architecture that optimum-intel does not have."""
    import torch
    from optimum.exporters.openvino import export_from_model
    from optimum.intel import OVConfig

    # a page of what the tracer takes for constant: whether that is right is what the evaluation measures
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    model = load_model(checkpoint, dtype=torch.float32, trust_remote_code=trust_remote_code)
    model.config.use_cache = True
    try:
        export_from_model(model, out, task=TASK, stateful=True, ov_config=OVConfig(dtype="fp32"))
    except Exception as error:  # each architecture's tracing fails in its own way
        if lack(error):
            raise
        raise PressError(
            f"{checkpoint}: optimum-intel cannot export {model.config.model_type}: {first_sentence(error)} Choose a "
            "model that it supports."
        ) from error


def _compress_rest(graph: "openvino.Model") -> "openvino.Model":
    """Embedding and head in int8, with a scale and a zero point a row; what has integers already stays as it is."""
    import nncf

    nncf.set_log_level(logging.WARNING)
    return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)


def _write_generation(checkpoint: Path, out: Path, ends: list[int]) -> None:
    """generation_config.json of the checkpoint, with every token that ends an answer: openvino_genai stops at these."""
    path = checkpoint / "generation_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    text = json.dumps({**config, "eos_token_id": ends}, indent=2, sort_keys=True)
    (out / path.name).write_text(f"{text}\n", encoding="utf-8")
