"""auto-opt's comparison with PyTorch: a sound export passes, and each fault is found and named."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from exported import PROVIDER, exported, quantized
from onnx import numpy_helper
from tiny_models import END, SPECIAL, USER

from olivepress.core.artifact import MODEL
from olivepress.core.errors import PressError
from olivepress.export import check as module
from olivepress.export import model_builder
from olivepress.export.check import check
from olivepress.export.mended_builder import rotary_tables
from olivepress.runtime.genai import Answer, Model
from stages.auto_opt import main

pytestmark = pytest.mark.usefixtures("one_thread")
WINDOW = 100


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> tuple[Path, Path]:
    """A Mistral with a sliding window: its quantized checkpoint, and the exported folder."""
    folder = tmp_path_factory.mktemp("mistral")
    checkpoint = quantized(folder, "mistral", sliding_window=WINDOW)
    return checkpoint, exported(checkpoint, folder / "onnx")


def broken(sound: tuple[Path, Path], folder: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    """A copy of the export after ``change``."""
    out = folder / "onnx"
    shutil.copytree(sound[1], out)
    model = onnx.load(out / MODEL)
    change(model.graph)
    (out / f"{MODEL}.data").unlink()
    onnx.save(model, out / MODEL, save_as_external_data=True, location=f"{MODEL}.data")
    return out


def scaled(name: str, factor: float) -> Callable[[onnx.GraphProto], None]:
    """Multiplies the initializer whose name begins so."""

    def change(graph: onnx.GraphProto) -> None:
        (tensor,) = [each for each in graph.initializer if each.name.startswith(name)]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))

    return change


def windows(size: int) -> Callable[[onnx.GraphProto], None]:
    def change(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "local_window_size":
                    attribute.i = size

    return change


def no_share(graph: onnx.GraphProto) -> None:
    """An adapter's share of one projection is computed of a matrix of zeros."""
    (node,) = [node for node in graph.node if "layers.1/mlp/down_proj" in node.name and node.name.endswith("/lora/B")]
    zero = onnx.helper.make_node("Sub", [node.input[0], node.input[0]], ["nothing"], name="nothing")
    node.input[0] = "nothing"
    graph.node.insert(list(graph.node).index(node), zero)


def test_a_sound_export_passes(sound):
    """Window and all: what is left in the exact comparison is the order of summation."""
    errors = check(*sound, PROVIDER)
    assert 0 < errors["layers"] < 1e-5
    assert 1e-3 < errors["logits"] < 0.06
    assert sorted(path.name for path in sound[1].parent.iterdir()) == ["base", "onnx", "quantized"]


FAULTS = {
    "a norm": (scaled("model.layers.1.input_layernorm.weight", 1.1), "without an adapter.*: layer 1: values"),
    "the last norm": (scaled("model.layers.2.final_norm_layernorm.weight", 1.1), "inputs of the head"),
    "no window": (windows(-1), "layer 1"),
    "another window": (windows(WINDOW - 1), f"sees the last {WINDOW - 1} tokens; sliding_window .* is {WINDOW}"),
    "other angles, which late places show": (scaled("cos_cache/0/frequencies", 1.0005), r"layer 0: keys"),
    "the head": (scaled("lm_head.MatMul.weight_scale", 1.5), "logits"),
    "an adapter's share": (no_share, "with a random adapter.*: after the last layer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_where_it_begins(sound, tmp_path, fault):
    change, said = FAULTS[fault]
    with pytest.raises(PressError, match=said):
        check(sound[0], broken(sound, tmp_path, change), PROVIDER)


def test_a_provider_that_is_not_here_is_said(sound, monkeypatch, capsys):
    monkeypatch.setattr(module, "WINDOW", 50)
    assert check(*sound, "NoSuchExecutionProvider") == {}
    assert "NoSuchExecutionProvider is not on this machine" in capsys.readouterr().err


# What the builder gets wrong without olivepress/export/mended_builder.py: settings, and what auto-opt then says.
UPSTREAM = {
    "part of a head": ("nemotron", {"partial_rotary_factor": 0.5}, "layer 0: keys"),
    "YaRN": (
        "llama",
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}},
        "layer 0: keys",
    ),
    "windows by layer": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
        "layer 1|inputs of the head",
    ),
    "LayerNorm for RMSNorm": ("olmo", {}, "layer 0"),
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_what_the_builder_gets_wrong_is_mended(tmp_path, monkeypatch, name):
    architecture, settings, said = UPSTREAM[name]
    checkpoint = quantized(tmp_path, architecture, **settings)
    assert check(checkpoint, exported(checkpoint, tmp_path / "mended"), PROVIDER)["layers"] < 1e-5
    monkeypatch.setattr(model_builder, "mended_builder", nullcontext)
    with pytest.raises(PressError, match=said):
        check(checkpoint, exported(checkpoint, tmp_path / "upstream"), PROVIDER)


def test_nothing_is_written_where_the_graph_differs(sound, tmp_path, monkeypatch):
    """By a rotary table that is one place off; auto-opt's folder is not there afterwards, nor a scratch one."""
    from onnxruntime_genai.models import builder

    tables = builder.Model.make_rotary_embedding_caches
    monkeypatch.setattr(
        "olivepress.export.mended_builder.rotary_tables",
        lambda config, length, kind, made=rotary_tables: tuple(part.roll(1, 0) for part in made(config, length, kind)),
    )
    out = tmp_path / "outs" / "model"
    out.parent.mkdir()
    done = CliRunner().invoke(
        main, [f"--model={sound[0]}", f"--out={out}", f"--quality={tmp_path / 'quality.json'}"], catch_exceptions=False
    )
    assert done.exit_code == 1, done.output
    assert "does not compute what the checkpoint does" in done.output and "layer 0: keys" in done.output
    assert list(out.parent.iterdir()) == []
    assert builder.Model.make_rotary_embedding_caches is tables


def test_an_answer_that_runs_on_is_noticed(sound, tmp_path):
    """The template's <|end|> ends an answer though no configuration names it; <|user|> begins another turn."""
    out = tmp_path / "model"
    command = [f"--model={sound[0]}", "--lm-head=float", f"--out={out}", f"--quality={tmp_path / 'quality.json'}"]
    assert CliRunner().invoke(main, command, catch_exceptions=False).exit_code == 0
    user, end = SPECIAL.index(USER), SPECIAL.index(END)
    assert json.loads((out / "genai_config.json").read_text())["model"]["eos_token_id"] == [0, end]
    model = Model(out, {}, template="chat")
    assert model.ran_on(Answer(tokens=[50, 51, end])) is None
    assert model.ran_on(Answer(tokens=[50, 51, user, 52])) == USER
    assert Model(out, {}, template="{prompt}\n{response}").ran_on(Answer(tokens=[50, user])) is None
