"""What is done to a graph that the GenAI builder has exported: passes, over one model that is read and written once.

In this order, since each finds what those before it leave (``MixedHead``, if asked for, before all of them):

1. ``RotaryCaches``: an If becomes a Slice, so that a CUDA graph can hold a long-RoPE model.
2. ``RotaryFrequencies``: rotary tables are computed when the model is loaded.
3. ``PackGateUp``: gate and up become one product, as q, k and v are already.
4. ``Embedding``: quantized, and one table with a head that is tied to it.
5. ``SixteenBits``: scales, and weights that stay float, in 16 bits where float32 says no more.
6. ``LoraInputs``: every projection, packed or not, gets inputs for an adapter. ONNX Runtime alone runs the result.
7. ``NativeOperators``, if asked for: the project's operators take the place of what 6 added, and of some nodes more;
   its attention, too, by ``CudaAttention`` or, on a CPU, if asked for, ``HalfCache``: the key-value cache in float16,
   and then a whole layer in one operator by ``DecoderLayers``. ``BlockAdapters`` on a CPU: adapters without zeros.
8. ``Dequantized``, for TensorRT for RTX: MatMulNBits in the operators that TensorRT has.

The graphs after 6 and after 7 read one and the same data file, so a folder can have both: then ``HalfAdapters`` makes
the portable one read adapters in float16, as the operators do, ``BlockAdapters`` without the zeros, and one adapter
file serves the two.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from olivepress.core import report
from olivepress.core.artifact import OPERATORS
from olivepress.core.errors import PressError

if TYPE_CHECKING:
    import onnx_ir as ir

EMBEDDINGS = ("float", "int8", "int4", "mixed")  # how a target's embedding is stored
CACHES = ("float32", "float16")  # and the key-value cache of the graph with native operators on a CPU


@dataclass(frozen=True)
class Transformed:
    """The graph; how many projections have LoRA inputs; a long-RoPE model's original length in tokens, else None.

    ``operators``: whether a graph with the native operators was written.
    """

    graph: "ir.Graph"
    projections: int
    original_length: int | None
    operators: bool


def transform(
    path: Path,
    lora_inputs: str,
    *,
    embedding: str = "int8",
    operators: str | None = None,
    both: bool = False,
    cache: str = "float32",
    columns: bool = False,
    dequantized: bool = False,
) -> Transformed:
    """Run all passes over the ONNX file, in place.

    ``lora_inputs`` is a key of BLOCKS (projections.py), ``embedding`` one of EMBEDDINGS. ``operators`` is the execution
    provider whose native operators are to run the adapters; None leaves them to ONNX Runtime's own. ``both``: the file
    stays portable, and the graph with the operators is written beside it (OPERATORS), or left out, with a note, where
    they cannot compute it. ``cache``: one of CACHES; CUDA's is what the graph computes in. ``columns`` as of
    LoraInputs, for WebGPU and others. ``dequantized``: Dequantized is run, too. Raises PressError for a graph that has
    no known projection, and else for one that the operators, or TensorRT's, cannot compute.
    """
    from olivepress.export.passes.block_adapters import BlockAdapters
    from olivepress.export.passes.cuda_attention import CudaAttention
    from olivepress.export.passes.decoder_layers import DecoderLayers
    from olivepress.export.passes.dequantized import Dequantized
    from olivepress.export.passes.embedding import Embedding
    from olivepress.export.passes.gate_up import PackGateUp
    from olivepress.export.passes.half_adapters import HalfAdapters
    from olivepress.export.passes.half_cache import HalfCache
    from olivepress.export.passes.lora_inputs import LoraInputs
    from olivepress.export.passes.mixed_head import MixedHead
    from olivepress.export.passes.native_operators import NativeOperators
    from olivepress.export.passes.rotary_caches import ORIGINAL_LENGTH, RotaryCaches
    from olivepress.export.passes.rotary_frequencies import RotaryFrequencies
    from olivepress.export.passes.sixteen_bits import SixteenBits
    from olivepress.export.projections import PACKED_MODELS, projections, qkv_sizes, read_model_type

    native = [NativeOperators(operators)] if operators else []
    blocks = []
    if operators == "CUDAExecutionProvider":
        native.append(CudaAttention())
    elif operators:
        if read_model_type(path.parent) not in PACKED_MODELS:
            blocks = [BlockAdapters(qkv_sizes(path.parent))]
        native += blocks
        if cache == "float16":
            native += [HalfCache(), DecoderLayers()]
    cut = MixedHead(path.with_name("tokenizer.json"))
    if embedding == "mixed":
        apply(path, cut)
    small = (Embedding(embedding, cut.rare), SixteenBits())
    alone = [] if both else native
    last = (Dequantized(),) if dequantized else ()
    model = apply(
        path,
        RotaryCaches(),
        RotaryFrequencies(),
        PackGateUp(),
        *small,
        LoraInputs(lora_inputs, columns=columns),
        *alone,
        *last,
    )
    if both:
        try:
            apply(path, *native, out=path.with_name(OPERATORS))
        except PressError as error:
            report.note(f"{error.message} The folder has the portable graph alone.")
            native = []
        else:
            apply(path, *blocks, HalfAdapters())
    return Transformed(model.graph, len(projections(model)), model.graph.meta.get(ORIGINAL_LENGTH), bool(native))


def apply(path: Path, *passes: "ir.passes.PassBase", out: Path | None = None) -> "ir.Model":
    """Read an ONNX file, run the passes one after the other, write it if they changed it, and return the model.

    ``out``: where to write it instead, beside the file, whose data file it goes on reading. A pass's PressError comes
    out with the file's name before it.
    """
    import onnx_ir as ir

    from olivepress.export.graph import load, save

    model = load(path)
    try:
        result = ir.passes.Sequential(*passes)(model)
    except ir.passes.PassError as error:
        if isinstance(error.__cause__, PressError):
            raise PressError(f"{path}: {error.__cause__.message}") from error
        raise
    if result.modified:
        save(model, out or path)
    return model
