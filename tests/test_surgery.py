"""An ONNX file read and written once, whatever is done to its graph, and its data file only where weights are new."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from olivepress.core.errors import PressError
from olivepress.export.graph import load, place, save
from olivepress.export.surgery import apply

WEIGHTS = {name: np.arange(n * 4, dtype=np.float32).reshape(n, 4) for n, name in enumerate(("a", "b", "c"), start=1)}


@pytest.fixture
def path(tmp_path):
    """Three weights in the data file and one inside the graph, each with a node that reads it."""
    values = [ir.val(name, const_value=ir.tensor(array, name=name)) for name, array in WEIGHTS.items()]
    nodes = [ir.node("Identity", [value], outputs=[ir.val(f"{value.name}/out")], name=value.name) for value in values]
    for node in nodes:
        node.outputs[0].type, node.outputs[0].shape = node.inputs[0].type, node.inputs[0].shape
    graph = ir.Graph([], [], nodes=nodes, initializers=values, opset_imports={"": 21}, name="g")
    path = tmp_path / "model.onnx"
    ir.save(ir.Model(graph, ir_version=10), path, external_data="model.onnx.data", size_threshold_bytes=0)
    return path


class Rename(ir.passes.InPlacePass):
    """Changes the graph, and no weight."""

    def call(self, model):
        next(iter(model.graph)).name = "renamed"
        return ir.passes.PassResult(model, modified=True)


class Double(ir.passes.InPlacePass):
    """New weights, made from those in the data file."""

    def call(self, model):
        value = model.graph.initializers["b"]
        old = value.const_value
        value.const_value = ir.LazyTensor(lambda: ir.tensor(2 * old.numpy(), name="b"), old.dtype, old.shape, name="b")
        return ir.passes.PassResult(model, modified=True)


class Look(ir.passes.InPlacePass):
    """Changes nothing."""

    def call(self, model):
        return ir.passes.PassResult(model, modified=False)


class Refuse(ir.passes.InPlacePass):
    """Raises ``error``."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def call(self, model):
        raise self.error


def counted(monkeypatch):
    """The calls of onnx.load and onnx.save, by which onnx-ir reads and writes files too."""
    calls = []
    for name in ("load", "save"):
        function = getattr(onnx, name)
        monkeypatch.setattr(onnx, name, lambda *a, _f=function, _n=name, **k: calls.append(_n) or _f(*a, **k))
    return calls


def test_any_number_of_passes_reads_once_and_writes_once(path, monkeypatch):
    calls = counted(monkeypatch)
    apply(path, Rename(), Double(), Look(), Rename())
    assert calls == ["load", "save"]


def test_without_a_change_nothing_is_written(path, monkeypatch):
    calls = counted(monkeypatch)
    apply(path, Look())
    assert calls == ["load"]


def test_read_and_written_again_the_bytes_are_the_same(path):
    before = path.read_bytes()
    save(load(path), path)
    assert path.read_bytes() == before


def test_the_data_file_stays_where_no_weight_is_new(path):
    data = path.with_name("model.onnx.data")
    before = data.stat()
    apply(path, Rename())
    assert data.stat() == before
    assert onnx.load(path).graph.node[0].name == "renamed"


def test_new_weights_are_in_the_data_file_at_their_old_place(path, caplog):
    apply(path, Double())
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    found = np.fromfile(path.with_name("model.onnx.data"), np.float32)
    expected = [array * (2 if name == "b" else 1) for name, array in WEIGHTS.items()]
    np.testing.assert_array_equal(found, np.concatenate([array.ravel() for array in expected]))
    tensors = onnx.load(path).graph.initializer
    for tensor, array in zip(tensors, expected, strict=True):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), array)
    assert not caplog.records


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_graph_is_read_where_dvc_has_linked_its_files(path, tmp_path, link):
    """Its weights are not: convert-adapter needs none."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for file in (path, path.with_name("model.onnx.data")):
        getattr(folder / file.name, link)(file)
    assert list(load(folder / "model.onnx").graph.initializers) == list(WEIGHTS)


def test_what_was_declared_stays_in_its_order_and_what_is_new_follows(path):
    """Bytes do not depend on where in the graph a pass puts its nodes."""

    class Insert(ir.passes.InPlacePass):
        def call(self, model):
            first, *_ = model.graph
            new = ir.val("new", ir.DataType.FLOAT, [1, 4])
            model.graph.insert_after(first, ir.node("Neg", [first.outputs[0]], outputs=[new], name="neg"))
            return ir.passes.PassResult(model, modified=True)

    before = [info.name for info in onnx.load(path).graph.value_info]
    apply(path, Insert())
    assert [info.name for info in onnx.load(path).graph.value_info] == [*before, "new"]


def test_bad_input_is_named_with_its_file_and_a_bug_is_a_bug(path):
    before = path.read_bytes()
    with pytest.raises(PressError, match=r"model\.onnx: /a/node: is odd\."):
        apply(path, Rename(), Refuse(PressError("/a/node: is odd.")))
    with pytest.raises(ir.passes.PassError) as caught:
        apply(path, Refuse(KeyError("bug")))
    assert isinstance(caught.value.__cause__, KeyError)
    assert path.read_bytes() == before


def test_two_graphs_over_one_data_file(path):
    """One form of a model is written, passes go on from there, and the next form reads the same weights."""
    model = load(path)
    Double()(model)
    save(model, path)
    data = path.with_name("model.onnx.data")
    before = data.stat()
    other = model.clone()
    Rename()(other)
    save(other, path.with_name("other.onnx"))
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.onnx", "model.onnx.data", "other.onnx"]
    assert data.stat() == before
    first, second = (onnx.load(path.with_name(name)) for name in ("model.onnx", "other.onnx"))
    assert [graph.graph.node[0].name for graph in (first, second)] == ["a", "renamed"]
    assert list(first.graph.initializer) == list(second.graph.initializer)
    assert list(first.graph.value_info) == list(second.graph.value_info)


def test_what_lies_at_one_place_of_the_data_file_is_written_once(path):
    """Two initializers over the same bytes, as a head and an embedding that is tied to it."""

    class Twin(ir.passes.InPlacePass):
        def call(self, model):
            old = model.graph.initializers["c"].const_value
            place = (old.location, old.offset, old.length, ir.DataType.UINT8)
            tensor = ir.ExternalTensor(*place, shape=ir.Shape([48]), name="twin", base_dir=old.base_dir)
            value = ir.val("twin", const_value=tensor)
            model.graph.initializers.add(value)
            model.graph.append(ir.node("Identity", [value], outputs=[ir.val("twin/out")], name="twin"))
            return ir.passes.PassResult(model, modified=True)

    data = path.with_name("model.onnx.data")
    size = data.stat().st_size
    apply(path, Twin(), Double())
    assert data.stat().st_size == size
    found = load(path).graph.initializers
    assert place(found["twin"].const_value) == place(found["c"].const_value)
    np.testing.assert_array_equal(found["twin"].const_value.numpy(), WEIGHTS["c"].view(np.uint8).ravel())
