"""What `olivepress web` refuses before it writes anything, and where its parts from npm come from."""

import json
from dataclasses import replace

import onnx
import pytest

from olivepress.core.errors import PressError
from olivepress.web import packages, site
from olivepress.web.graph import check_sizes, write_graph

FLOAT16, INT64 = onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64


def graph(folder, domain="com.microsoft", extra=None):
    """A graph of one product with a LoRA input that has a default, and ``extra`` as a further input."""
    value = onnx.helper.make_tensor_value_info
    inputs = [value("input_ids", INT64, ["batch_size", "n"]), value("a.lora_A.weight", FLOAT16, ["rank", 8])]
    inputs += [value("past_key_values.0.key", FLOAT16, ["batch_size", 2, "past", 4])]
    inputs += [value(extra, INT64, [1])] if extra else []
    node = onnx.helper.make_node("Anything", ["input_ids"], ["logits"], domain=domain)
    default = onnx.helper.make_tensor("a.lora_A.weight", FLOAT16, [0, 8], [])
    made = onnx.helper.make_graph([node], "g", inputs, [value("logits", FLOAT16, None)], [default])
    onnx.save(onnx.helper.make_model(made), str(folder / "model.onnx"))


def test_a_lora_input_has_to_be_fed(tmp_path):
    graph(tmp_path)
    (tmp_path / "out").mkdir()
    described = write_graph(tmp_path, tmp_path / "out")
    assert described == {
        "weights": [],
        "lora": {"a.lora_A.weight": {"type": "float16", "shape": [0, 8]}},
        "past": {"past_key_values.0.key": {"type": "float16", "shape": [1, 2, 0, 4]}},
        "fed": ["input_ids"],
    }
    assert not onnx.load(str(tmp_path / "out/model.onnx")).graph.initializer


@pytest.mark.parametrize(
    ("change", "said"),
    [({"domain": "olivepress"}, "operators of olivepress"), ({"extra": "pixel_values"}, "the input pixel_values")],
)
def test_a_graph_that_no_browser_runs_is_refused(tmp_path, change, said):
    graph(tmp_path, **change)
    with pytest.raises(PressError, match=said):
        write_graph(tmp_path, tmp_path)


def test_weights_beyond_what_a_browser_holds_are_refused(tmp_path):
    graph(tmp_path)
    model = onnx.load(str(tmp_path / "model.onnx"))
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [0.0])
    weight.ClearField("float_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="model.onnx.data")
    model.graph.initializer.append(weight)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / "model.onnx.data").open("wb") as file:
        file.truncate(2**31)  # sparse
    with pytest.raises(PressError, match=r"2,147,483,648 bytes; a browser's WebAssembly takes at most"):
        check_sizes(tmp_path, ["model.onnx.data"])


def test_another_providers_target_is_refused(tmp_path):
    (tmp_path / "model").mkdir()
    decoder = {"filename": "model.onnx", "session_options": {"provider_options": [{"cuda": {}}]}}
    (tmp_path / "model/model.onnx").write_bytes(b"")
    numbers = {"context_length": 8, "vocab_size": 8, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = {"model": {**numbers, "type": "phi3", "decoder": decoder}, "search": {}}
    (tmp_path / "model/genai_config.json").write_text(json.dumps(config))
    with pytest.raises(PressError, match="is for cuda; the page runs in WebAssembly"):
        site.write_site(tmp_path, tmp_path / "web", title="t", template="chat")
    assert not (tmp_path / "web").exists()


def test_a_package_with_another_hash_is_refused(tmp_path, monkeypatch):
    jinja = next(package for package in packages.PACKAGES if package.name.endswith("jinja"))
    monkeypatch.setattr(packages, "PACKAGES", (replace(jinja, integrity="sha512-AAAA"),))
    with pytest.raises(PressError, match=r"jinja@.*expected sha512-AAAA\. Nothing is written"):
        packages.write_packages(tmp_path / "packages")
    assert not list((tmp_path / "packages").iterdir())


def test_without_npm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PressError, match="apt-get install nodejs npm"):
        packages.write_packages(tmp_path / "packages")
