"""genai_config.json says how ONNX Runtime is to run the model."""

import json

import pytest

from olivepress.export.session_options import set_session_options
from olivepress.runtime.genai import captures_cuda_graphs


def written(folder, provider_options, provider, **settings):
    """The session options after the call, and the rest of the file."""
    decoder = {"session_options": {"log_id": "x", "provider_options": provider_options}, "head_size": 2}
    config = {"model": {"decoder": decoder, "type": "phi3"}, "search": {"top_k": 1}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    set_session_options(folder, provider, **settings)
    found = json.loads((folder / "genai_config.json").read_text())
    session = found["model"]["decoder"].pop("session_options")
    del config["model"]["decoder"]["session_options"]
    assert found == config, "nothing else changes"
    return session


def test_a_cpu_gets_one_thread_per_core_of_the_machine_that_loads_it(tmp_path):
    """0 is ONNX Runtime's own default; a number would be that of the machine that exported."""
    session = written(tmp_path, [], "CPUExecutionProvider", cuda_graph=True)
    assert session == {"log_id": "x", "provider_options": [], "intra_op_num_threads": 0}


@pytest.mark.parametrize(("on", "value"), [(True, "1"), (False, "0")])
def test_cuda_graphs_are_switched(tmp_path, on, value):
    cuda = {"cuda": {"enable_cuda_graph": "0", "enable_skip_layer_norm_strict_mode": "1"}}
    session = written(tmp_path, [cuda], "CUDAExecutionProvider", cuda_graph=on)
    options = {"enable_cuda_graph": value, "enable_skip_layer_norm_strict_mode": "1"}
    assert session == {"log_id": "x", "provider_options": [{"cuda": options}]}
    config = json.loads((tmp_path / "genai_config.json").read_text())
    assert captures_cuda_graphs(config) == on, "by which the runtime knows what to load for several rows"


def test_a_cpu_captures_none(tmp_path):
    written(tmp_path, [], "CPUExecutionProvider", cuda_graph=True)
    assert not captures_cuda_graphs(json.loads((tmp_path / "genai_config.json").read_text()))


@pytest.mark.parametrize(
    ("provider", "on", "length"),
    [("CUDAExecutionProvider", True, 4096), ("CUDAExecutionProvider", False, 131072)],
)
def test_a_captured_graph_ends_where_the_rotary_tables_change(tmp_path, provider, on, length):
    decoder = {"session_options": {"provider_options": [{"cuda": {}}]}}
    config = {"model": {"decoder": decoder, "context_length": 131072}, "search": {"max_length": 131072}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    set_session_options(tmp_path, provider, cuda_graph=on, original_length=4096)
    found = json.loads((tmp_path / "genai_config.json").read_text())
    assert (found["model"]["context_length"], found["search"]["max_length"]) == (length, length)
