"""A CPU target's folder with two graphs: either gives the same, machine or switch chooses, foreign code is out."""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import Result
from in_process import run_stage

import olivepress
from olivepress.core.artifact import LIBRARIES, LIBRARY, MODEL, OPERATORS, library_for
from olivepress.core.errors import PressError
from olivepress.core.params import read_params
from olivepress.export.passes.decoder_layers import LAYER
from olivepress.runtime.agreement import BOUND
from olivepress.runtime.graphs import SWITCH

ROOT = Path(__file__).parents[2]
TARGET = "cpu-int4"
PROMPTS = ("What is the best thing to see in Chicago?", "What is the capital of France?")
# As the card has it.
PLAIN = """\
import onnxruntime_genai as og

model = og.Model("model")
adapters = og.Adapters(model)
adapters.load("adapters/travel.onnx_adapter", "travel")
tokenizer = og.Tokenizer(model)
messages = '[{{"role": "user", "content": "{prompt}"}}]'
ids = tokenizer.encode(tokenizer.apply_chat_template(messages, add_generation_prompt=True))
params = og.GeneratorParams(model)
params.set_search_options(max_length=len(ids) + 32, do_sample=False)
generator = og.Generator(model, params)
generator.set_active_adapter(adapters, "travel")
generator.append_tokens(ids)
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)[len(ids):]))
"""


@pytest.fixture
def switch(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    return lambda value: monkeypatch.setenv(SWITCH, value)


@pytest.fixture(scope="module")
def release(finished, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("graphs") / "release"
    shutil.copytree(finished.folder / "models/onnx" / TARGET, folder)
    return folder


def test_the_two_graphs_share_the_weights_and_are_small(release):
    files = {path.name: path.stat().st_size for path in (release / "model").iterdir()}
    assert [name for name in files if name.endswith(".data")] == [f"{MODEL}.data"]
    assert files[MODEL] + files[OPERATORS] < 150_000
    weights = [
        {
            (tensor.name, *((entry.key, entry.value) for entry in tensor.external_data))
            for tensor in onnx.load(release / "model" / name, load_external_data=False).graph.initializer
            if tensor.external_data
        }
        for name in (MODEL, OPERATORS)
    ]
    assert weights[0] == weights[1]
    manifest = json.loads((release / "manifest.json").read_text())
    assert manifest["graphs"] == {"configured": f"model/{MODEL}", "operators": f"model/{OPERATORS}"}
    own = f"model/{library_for(platform.machine())}"
    assert manifest["proved"] == {
        **{f"model/{name}": "exported" for name in LIBRARIES.values()},
        own: "run",
        **{f"model/{name}": "evaluated" for name in (MODEL, OPERATORS)},
    }
    assert {f"model/{name}" for name in (*LIBRARIES.values(), OPERATORS)} <= manifest["files"].keys()
    card = (release / "README.md").read_text()
    named = " and ".join(f"`model/{name}` ({processor})" for processor, name in LIBRARIES.items())
    assert f"`model/{OPERATORS}` calls native code for Linux:\n{named}.\n" in card


def test_the_operators_graph_alone_has_a_float16_cache(release):
    """And GenAI, which has one configuration for both, keeps it in the type of the graph that it loads."""
    for name, dtype in ((MODEL, onnx.TensorProto.FLOAT), (OPERATORS, onnx.TensorProto.FLOAT16)):
        graph = onnx.load(release / "model" / name, load_external_data=False).graph
        cache = [value for value in (*graph.input, *graph.output) if value.name.startswith(("past_", "present."))]
        layers = sum(node.op_type in ("GroupQueryAttention", LAYER) for node in graph.node)
        assert len(cache) == 4 * layers > 0
        assert {value.type.tensor_type.elem_type for value in cache} == {dtype}


def test_either_graph_computes_the_same_without_and_with_adapters(release, switch, capfd):
    """But for the rounding of activations, which may decide between two tokens that are as likely."""
    portable, native = (olivepress.load(release, graph=graph) for graph in ("portable", "operators"))
    said = capfd.readouterr().err
    assert f"portable graph ({MODEL}): as asked for" in said
    assert f"graph with native operators ({OPERATORS}): as asked for" in said
    for adapter in (None, "travel", "cooking"):
        for prompt in PROMPTS:
            ids = portable.tokenizer.encode(portable.render(prompt)).tolist()
            ids += portable.answer(prompt, adapter, max_new_tokens=16).tokens[:-1]
            expected, found = portable.logits(ids, adapter), native.logits(ids, adapter)
            assert np.linalg.norm(found - expected) < BOUND * np.linalg.norm(expected)
    switch("portable")
    assert olivepress.load(release).graph.file == MODEL
    assert "as asked for" in capfd.readouterr().err


def test_chat_says_which_graph_answers(release, switch):
    def said(**environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "olivepress", "chat", "--folder", release, "--max-new-tokens", "12", *options],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **environment},
            input=PROMPTS[1],
            capture_output=True,
            text=True,
            check=True,
        )

    options: tuple[str, ...] = ()
    simulated = said(**{SWITCH: "portable"})  # a machine that has not what the operators need
    assert f"portable graph ({MODEL})" in simulated.stderr
    options = ("--graph", "operators")
    forced = said(**{SWITCH: "portable"})
    assert f"graph with native operators ({OPERATORS})" in forced.stderr
    assert simulated.stdout == forced.stdout


def test_genai_alone_loads_the_portable_graph_and_no_native_code(release, tmp_path):
    """A consumer without our package, and without the library: what Windows or macOS would open."""
    shutil.copytree(release, tmp_path / "got")
    for name in (*LIBRARIES.values(), OPERATORS):
        (tmp_path / "got/model" / name).unlink()
    program = PLAIN.format(prompt=PROMPTS[0])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "got", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = olivepress.load(release, graph="portable").answer(PROMPTS[0], "travel", max_new_tokens=32).text
    assert done.stdout == expected + "\n"


def test_another_library_is_refused_with_either_graph(release, tmp_path, switch):
    shutil.copytree(release, tmp_path / "got")
    (tmp_path / "got/model" / LIBRARY).write_bytes(b"another")
    for graph in (None, "portable", "operators"):
        with pytest.raises(PressError, match=f"{LIBRARY}: has 7 bytes, manifest.json says"):
            olivepress.load(tmp_path / "got", graph=graph)


def smoke_infer(folder: Path, out: Path) -> tuple[str, dict[str, bytes]]:
    """What the stage said, and its outputs and cost."""
    result = run_stage(
        "smoke_infer",
        *("--model", folder / "model", "--adapter", "travel"),
        *("--adapter-file", folder / "adapters/travel.onnx_adapter", "--prompt", PROMPTS[0], "--max-new-tokens", 16),
        *("--answers", out / "answers.json", "--quality", out / "quality.json", "--cost", out / "cost.json"),
    )
    return result.stderr, {path.stem: path.read_bytes() for path in out.glob("*.json")}


def test_smoke_infer_asks_both_and_its_outputs_are_those_of_a_machine_that_has_one(release, tmp_path, switch):
    said, both = smoke_infer(release, tmp_path / "both")
    assert "asked the graph with native operators, too: logits differ by at most" in said
    assert json.loads(both["cost"])["portable"]["median_tokens_per_second"] > 0
    switch("portable")
    said, one = smoke_infer(release, tmp_path / "one")
    assert "the graph with native operators was not asked: as asked for" in said
    assert "portable" not in json.loads(one["cost"])
    assert (both["answers"], both["quality"]) == (one["answers"], one["quality"])


def test_operators_that_compute_otherwise_stop_smoke_infer(release, tmp_path, switch):
    shutil.copytree(release, tmp_path / "got")
    graph = onnx.load(tmp_path / "got/model" / OPERATORS, load_external_data=False)
    layer = next(node for node in graph.graph.node if node.op_type == LAYER)
    next(attribute for attribute in layer.attribute if attribute.name == "epsilon").floats[0] = 10
    onnx.save(graph, tmp_path / "got/model" / OPERATORS)
    said, found = smoke_infer(tmp_path / "got", tmp_path / "out")
    assert "the graph with native operators computes otherwise than the portable one: logits differ" in said
    assert found == {}


def scales_of_another_layer(proto: onnx.ModelProto) -> None:
    """Two layers' projections read each other's scales: as large, and wrong."""
    named = {tensor.name: tensor for tensor in proto.graph.initializer}
    one, other = (named[f"model.layers.{layer}.attn.o_proj.MatMulNBits.scales"].external_data for layer in (2, 3))
    places = {entry.key: entry.value for entry in one}
    for entry in one:
        entry.value = next(each.value for each in other if each.key == entry.key)
    for entry in other:
        entry.value = places[entry.key]


def sharper_attention(proto: onnx.ModelProto) -> None:
    """Logits of attention a fifth too large, which smoke-infer takes for rounding."""
    for node in proto.graph.node:
        for attribute in node.attribute:
            if (node.op_type, attribute.name) == (LAYER, "scale"):
                attribute.f *= 1.2


def evaluated(finished, model: Path, results: Path) -> Result:
    """What evaluate says of ``model`` with the adapter travel; ``results``: a copy of the finished run's."""
    made = finished.folder / "models"
    out = {part: results / f"{part}/evaluate.json" for part in ("samples", "plots", "cost")}
    return run_stage(
        "evaluate",
        *("--onnx", model, "--onnx-adapter", made / f"onnx/{TARGET}/adapters/travel.onnx_adapter"),
        *("--reference", made / "reference/travel", "--general", made / f"scores/{TARGET}.json"),
        *("--quality", results / f"quality/evaluate/{TARGET}/travel.json"),
        *("--intervals", results / f"intervals/{TARGET}/travel.json"),
        *("--samples", out["samples"], "--plot", out["plots"], "--cost", out["cost"]),
    )


@pytest.mark.parametrize(("fault", "answers"), [(scales_of_another_layer, False), (sharper_attention, True)])
def test_a_graph_with_operators_that_is_wrong_fails_the_gate(finished, release, tmp_path, switch, fault, answers):
    """Its own thresholds do, however well the portable graph does, and also where smoke-infer lets it pass."""
    shutil.copytree(release, tmp_path / "got")
    shutil.copytree(finished.folder / "results", tmp_path / "results")
    model, results = tmp_path / "got/model", tmp_path / "results"
    proto = onnx.load(model / OPERATORS, load_external_data=False)
    fault(proto)
    onnx.save(proto, model / OPERATORS)
    if answers:
        assert "asked the graph with native operators, too" in smoke_infer(tmp_path / "got", tmp_path / "asked")[0]
    said = evaluated(finished, model, results)
    assert said.exit_code == 0, said.output
    metrics = json.loads((results / f"quality/evaluate/{TARGET}/travel.json").read_text())
    before = json.loads((finished.folder / f"results/quality/evaluate/{TARGET}/travel.json").read_text())
    for name in ("held_out", "general"):
        for metric in ("loss", "kl_divergence"):
            assert all(
                value == before[name][metric][step]
                for step, value in metrics[name][metric].items()
                if not step.endswith("_operators")
            )
    thresholds = read_params(ROOT / "params.yaml")["thresholds"].items()
    options = [text for name, limit in thresholds for text in (f"--{name.replace('_', '-')}", limit)]
    judged = run_stage(
        "gate",
        *("--results", results, "--target", TARGET, "--adapter", "travel"),
        *("--quality", results / "gate.json", "--cost", results / "cost/gate.json", *options),
    )
    assert judged.exit_code == 1 and not (results / "gate.json").exists()
    missed = [line for line in judged.output.splitlines() if line.startswith("missed")]
    assert any("travel: KL divergence of quantized_operators" in line for line in missed)
    assert all("_operators" in line for line in missed)


def test_a_graph_that_cannot_be_measured_stops_evaluate(finished, release, tmp_path):
    shutil.copytree(release / "model", tmp_path / "model")
    (tmp_path / "model" / library_for(platform.machine())).unlink()
    shutil.copytree(finished.folder / "results", tmp_path / "results")
    said = evaluated(finished, tmp_path / "model", tmp_path / "results")
    assert said.exit_code == 1
    assert "cannot run here" in said.output and "Every graph that ships is measured" in said.output
