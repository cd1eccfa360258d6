"""What the exact comparison of an export shows of a graph: what the head reads, and not the table of a tied one."""

from onnx import TensorProto, helper

from olivepress.export.check import _make_exact


def test_a_tied_heads_table_is_not_taken_for_what_the_head_reads():
    nodes = [
        helper.make_node("Transpose", ["table"], ["turned"], name="/lm_head/MatMul/Transpose", perm=[1, 0]),
        helper.make_node("MatMul", ["state", "turned"], ["logits"], name="/lm_head/MatMul"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, None) for name in ("state", "table", "logits")]
    proto = helper.make_model(helper.make_graph(nodes, "head", values[:2], values[2:]))
    _make_exact(proto)
    assert [value.name for value in proto.graph.output] == ["logits", "state"]
