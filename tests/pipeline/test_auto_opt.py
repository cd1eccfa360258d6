"""The auto-opt stage on a tiny Llama: after the builder the graph is read once and written once."""

import json
import shutil

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner
from tiny_models import GROUP, LAYERS, make_checkpoint, random_blocks

from olivepress.core.artifact import LIBRARY, MODEL, OPERATORS
from olivepress.core.errors import PressError
from olivepress.export.passes.decoder_layers import LAYER
from olivepress.export.projections import read_projections
from olivepress.export.surgery import transform
from olivepress.quantize.olive import quantize_olive
from stages.auto_opt import main

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    make_checkpoint("llama", folder / "base")
    blocks = random_blocks(2, 64)
    settings = {"bits": 4, "group_size": GROUP, "zero_point": True, "blocks": blocks, "trust_remote_code": False}
    quantize_olive(folder / "base", folder / "quantized", algorithm="rtn", **settings)
    return folder / "quantized"


def counted(monkeypatch) -> list[str]:
    """The calls of onnx.load and onnx.save, by which the builder and onnx-ir read and write files too."""
    calls = []
    for name in ("load", "save"):
        function = getattr(onnx, name)
        monkeypatch.setattr(onnx, name, lambda *a, _f=function, _n=name, **k: calls.append(_n) or _f(*a, **k))
    return calls


@pytest.mark.parametrize(
    ("option", "calls_after_the_builders", "graphs"),
    [
        ("--no-lora-operator", 1, {MODEL: False}),
        ("--lora-operator", 1, {MODEL: True}),
        # the second graph from the first, then the adapters' type
        ("--lora-operator=both", 3, {MODEL: False, OPERATORS: True}),
    ],
)
def test_a_graph_is_read_and_written_once(quantized, tmp_path, monkeypatch, option, calls_after_the_builders, graphs):
    """However many passes there are: the first save is the builder's."""
    calls = counted(monkeypatch)
    command = [f"--model={quantized}", "--lm-head=float", option, f"--out={tmp_path / 'model'}"]
    command += [f"--quality={tmp_path / 'quality.json'}", f"--cost={tmp_path / 'cost.json'}"]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    passes = ["save", *["load", "save"] * calls_after_the_builders]
    assert calls[: len(passes)] == passes  # what follows compares what was written
    assert json.loads((tmp_path / "quality.json").read_text())["lora_projections"] == 4 * LAYERS
    found = {path.name: onnx.load(path, load_external_data=False).graph for path in tmp_path.glob("model/*.onnx")}
    kinds = {name: {node.op_type for node in graph.node} for name, graph in found.items()}
    assert {name: not kind.isdisjoint(("LoraAddGate", LAYER)) for name, kind in kinds.items()} == graphs
    assert (tmp_path / "model" / LIBRARY).is_file() == any(graphs.values())
    config = json.loads((tmp_path / "model/genai_config.json").read_text())["model"]["decoder"]
    assert config["filename"] == MODEL
    assert ("custom_ops_library" in config["session_options"]) == graphs[MODEL], "what every other program loads"


@pytest.mark.parametrize(("option", "dtype"), [((), "FLOAT16"), (("--kv-cache=float32",), "FLOAT")])
def test_the_cache_is_kept_as_asked_for(quantized, tmp_path, option, dtype):
    command = [f"--model={quantized}", "--lm-head=float", "--lora-operator", *option, f"--out={tmp_path / 'model'}"]
    command += [f"--quality={tmp_path / 'quality.json'}", f"--cost={tmp_path / 'cost.json'}"]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    graph = onnx.load(tmp_path / "model" / MODEL, load_external_data=False).graph
    types = {value.type.tensor_type.elem_type for value in graph.input if value.name.startswith("past_")}
    assert types == {getattr(onnx.TensorProto, dtype)}


def test_a_float16_cache_takes_the_operators(quantized, tmp_path):
    command = [f"--model={quantized}", "--no-lora-operator", "--kv-cache=float16", f"--out={tmp_path / 'model'}"]
    command += [f"--quality={tmp_path / 'quality.json'}", f"--cost={tmp_path / 'cost.json'}"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 1 and "kv_cache: found float16 without native operators" in done.output


def test_a_model_that_the_operators_cannot_compute_gets_the_portable_graph_alone(tmp_path, capsys):
    """Unless they were asked for alone: 40 outputs are no multiple of 16."""
    x = ir.val("x", ir.DataType.FLOAT, [1, "n", 8])
    weight = ir.val("w", const_value=ir.tensor(np.ones((8, 40), np.float32), name="w"))
    y = ir.val("y", ir.DataType.FLOAT, [1, "n", 40])
    node = ir.node("MatMul", [x, weight], outputs=[y], name="/model/layers.0/attn/o_proj/MatMul")
    graph = ir.Graph([x], [y], nodes=[node], initializers=[weight], opset_imports={"": 21}, name="g")
    ir.save(ir.Model(graph, ir_version=10), tmp_path / MODEL)
    decoder = {"head_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1}
    (tmp_path / "genai_config.json").write_text(json.dumps({"model": {"type": "llama", "decoder": decoder}}))
    (tmp_path / "alone").mkdir()
    for name in (MODEL, "genai_config.json"):
        shutil.copyfile(tmp_path / name, tmp_path / "alone" / name)
    assert not transform(
        tmp_path / MODEL, "all", embedding="float", operators="CPUExecutionProvider", both=True
    ).operators
    assert [path.name for path in tmp_path.glob("*.onnx")] == [MODEL]
    assert {each.dtype for each in read_projections(tmp_path / MODEL).values()} == {"float32"}
    assert "multiples of 16" in (said := capsys.readouterr().err) and "the portable graph alone" in said
    with pytest.raises(PressError, match="multiples of 16"):
        transform(tmp_path / "alone" / MODEL, "all", embedding="float", operators="CPUExecutionProvider")
