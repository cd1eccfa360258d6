"""TEMPORARY experiment: other ways to write the LoRA path, for decode_cuda.py measure.

ours-apart: gate and up apart. ours-mm: besides, A as [K, rank] through MatMul.
"""

import shutil
from pathlib import Path

import click
import models
from decode_cuda import CUDA, RANKS, provider_option, work_option

from olivepress.lora_inputs import add_lora_inputs
from olivepress.onnx_export import Target, export
from olivepress.rotary_caches import replace_if
from olivepress.session_options import set_session_options


@click.command()
@work_option
@provider_option
def main(work: Path, provider: str) -> None:
    target = Target(provider, "int4", "int8", "float16" if provider == CUDA else "int8")
    for name in ("ours-apart", "ours-mm"):
        shutil.rmtree(work / name, ignore_errors=True)
        export(work / "int4", work / name, target)
        replace_if(work / name / "model.onnx")
        add_lora_inputs(work / name / "model.onnx")
        set_session_options(work / name, provider, cuda_graph=True)
        for rank in RANKS:
            out = work / f"rank-{rank}{name.removeprefix('ours')}.onnx_adapter"
            models.convert_adapter(work / f"rank-{rank}", work / name, out)
            if name == "ours-mm":
                transpose_adapter(out)
        if name == "ours-mm":
            transpose(work / name / "model.onnx")


def transpose(path: Path) -> None:
    import onnx

    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "FusedMatMul":
            node.op_type, node.domain = "MatMul", ""
            del node.attribute[:]
    for value in model.graph.input:
        if value.name.endswith("lora_A.weight"):
            dims = value.type.tensor_type.shape.dim
            rank, inputs = dims[0].dim_param, dims[1].dim_value
            dims[0].dim_value, dims[1].dim_param = inputs, rank
    for tensor in model.graph.initializer:
        if tensor.name.endswith("lora_A.weight"):
            tensor.dims[:] = [tensor.dims[1], 0]
    onnx.save(model, path)


def transpose_adapter(path: Path) -> None:
    import numpy as np
    import onnxruntime

    source = onnxruntime.AdapterFormat.read_adapter(str(path))  # owns the memory of its values
    old = source.get_parameters()
    new = {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(
            np.ascontiguousarray(value.numpy().T if name.endswith("lora_A.weight") else value.numpy())
        )
        for name, value in old.items()
    }
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters(new)
    path.unlink()
    file.export_adapter(str(path))


if __name__ == "__main__":
    main()
