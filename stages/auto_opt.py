"""Export the quantized base for one target, with open LoRA inputs. Knows of no adapter."""

from pathlib import Path

import click

from olivepress.core import checkpoint
from olivepress.core.artifact import MODEL
from olivepress.core.end_tokens import end_tokens
from olivepress.core.errors import PressError
from olivepress.core.lacks import need_memory
from olivepress.core.machine import take_threads
from olivepress.core.outputs import atomic_output, write_json
from olivepress.core.params import default_kv_cache, default_lora_operator, load_params
from olivepress.core.proof import EXPORTED_ONLY, proved_by_export
from olivepress.core.providers import CPU, NEVER_RUN, PROVIDERS, TENSORRT_RTX, WEBGPU
from olivepress.core.report import note
from olivepress.core.stage import InFile, InFolder, Out, stage
from olivepress.core.tokenizer import load_tokenizer
from olivepress.export.check import check
from olivepress.export.model_builder import ACTIVATIONS, HEADS, Target, export
from olivepress.export.operator_library import check_library, copy_libraries
from olivepress.export.projections import BLOCKS
from olivepress.export.session_options import set_end_tokens, set_session_options
from olivepress.export.sizes import bytes_by_part
from olivepress.export.structure import DOCUMENTED, check_structure
from olivepress.export.surgery import CACHES, EMBEDDINGS, transform
from olivepress.export.tokenizer_check import check_tokenizer
from olivepress.export.tokenizer_file import compact_tokenizer, portable_template


@stage
@click.option("--model", type=InFolder, required=True, help="Quantized checkpoint folder.")
@click.option(
    "--provider", type=click.Choice(PROVIDERS), default=PROVIDERS[0], help="Execution provider of the target."
)
@click.option("--precision", type=click.Choice(["int4"]), default="int4", help="Weights of what is not quantized yet.")
@click.option("--lm-head", type=click.Choice(list(HEADS)), default="int8", help="How the output head is stored.")
@click.option("--embedding", type=click.Choice(EMBEDDINGS), default="int8", help="How the embedding is stored.")
@click.option(
    "--activations", type=click.Choice(list(ACTIVATIONS)), default="int8", help="What int4 layers compute in."
)
@click.option("--lora-inputs", type=click.Choice(list(BLOCKS)), default="all", help="What an adapter may change.")
@click.option(
    "--lora-operator",
    type=click.Choice(["both", "true", "false"]),
    is_flag=False,
    flag_value="true",
    help="Native operators (Linux): beside a portable graph, alone, or none.  [default: both on a CPU]",
)
@click.option("--no-lora-operator", is_flag=True, help="The same as --lora-operator false.")
@click.option(
    "--kv-cache",
    type=click.Choice(CACHES),
    help="How the key-value cache is kept.  [default: float16 with native operators or CUDA]",
)
@click.option("--cuda-graph/--no-cuda-graph", default=True, help="CUDA: replay the decoding step as a graph.")
@click.option(
    "--exported-only/--no-exported-only",
    default=None,
    help="No stage runs it: its graph is looked through, and computed on the CPU.  [default: what no stage can run]",
)
@click.option("--texts", type=InFile, help="JSON lines: texts on which the runtime's tokenizer is compared.")
@click.option("--params", type=InFile, help="params.yaml: --texts is its quantize.calibration_data.")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, help="PyTorch's on the CPU; 0: as many as cores.")
@click.option("--trust-remote-code/--no-trust-remote-code", default=False)
@click.option("--out", type=Out, required=True, help="Folder for the ONNX Runtime GenAI model.")
@click.option("--quality", type=Out, required=True, help="JSON: sizes, and what of the folder was proved to work.")
def main(
    model: Path,
    provider: str,
    precision: str,
    lm_head: str,
    embedding: str,
    activations: str,
    lora_inputs: str,
    lora_operator: str | None,
    no_lora_operator: bool,
    kv_cache: str | None,
    cuda_graph: bool,
    exported_only: bool | None,
    texts: Path | None,
    params: Path | None,
    threads: int,
    trust_remote_code: bool,
    out: Path,
    quality: Path,
) -> dict[str, float]:
    """Write model.onnx, its data, genai_config.json and the tokenizer to OUT, once it computes what MODEL does."""
    if (lm_head == "mixed") != (embedding == "mixed"):
        raise PressError(
            f"embedding: found {embedding} with lm_head {lm_head}, expected mixed in both: they are cut alike."
        )
    checkpoint.check(model)
    need_memory(checkpoint.weight_bytes(model), f"{model}, which is repacked in memory,")
    take_threads(threads)
    graphs = "false" if no_lora_operator else lora_operator or str(default_lora_operator(provider)).lower()
    operators = None if graphs == "false" else provider
    if operators and provider in (WEBGPU, *NEVER_RUN):
        raise PressError("lora_operator: the native operators are for the CPU and CUDA: leave it out for others.")
    if provider in NEVER_RUN and activations != "float16":
        raise PressError(
            f"activations: found {activations}, expected float16: what a graph for {provider} computes in."
        )
    never = provider in NEVER_RUN or bool(exported_only)
    possible = default_kv_cache(provider, graphs, activations)
    if kv_cache == "float16" and possible == "float32":
        raise PressError("kv_cache: found float16 without native operators, which alone have it on a CPU.")
    if operators:
        check_library(provider)
    with atomic_output(out) as scratch:
        export(model, scratch, Target(provider, precision, lm_head, activations), trust_remote_code=trust_remote_code)
        done = transform(
            scratch / MODEL,
            lora_inputs,
            embedding=embedding,
            operators=operators,
            both=graphs == "both",
            cache=kv_cache or possible,
            columns=provider in (WEBGPU, *NEVER_RUN),
            dequantized=provider == TENSORRT_RTX,
        )
        if provider in DOCUMENTED:
            check_structure(scratch / MODEL, provider)
        if done.operators:
            copy_libraries(scratch, provider)
        set_session_options(scratch, provider, cuda_graph=cuda_graph, original_length=done.original_length)
        compact_tokenizer(scratch)
        checkpoint.carry_licence(model, scratch)
        checkpoint.forget_offline(scratch)
        tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
        set_end_tokens(scratch, end_tokens(model, tokenizer))
        known = load_params(params) if params else None
        if known:  # a name that may have blanks and quotes, so it stands in no command
            texts = Path(known.quantize.calibration_data)
            if not texts.is_file():
                raise PressError(f"{params}: quantize.calibration_data: {texts} is not there.")
        chat = known is not None and known.text.template == "chat"
        date = (known and known.prepare.date) or None
        if chat:
            portable_template(scratch, date)
        check_tokenizer(scratch, tokenizer, texts, chat=chat, date=date)
        # of a graph of ONNX Runtime's own operators the CPU can say whether it is right, and not whether WebGPU, say,
        # computes it
        on_cpu = provider == WEBGPU and activations == "float32"
        elsewhere = on_cpu or (never and provider != CPU and not done.operators)
        errors = check(model, scratch, provider, elsewhere=elsewhere, trust_remote_code=trust_remote_code)
    parts = bytes_by_part(out, done.graph)
    found = {
        "bytes": sum(parts.values()),
        "bytes_by_part": parts,
        "lora_projections": done.projections,
        "proved": proved_by_export(out, computed=bool(errors) and (never or not elsewhere), elsewhere=elsewhere),
        **({EXPORTED_ONLY: True} if never else {}),
    }
    if never:
        note(f"{out}: exported, its structure checked, never run: no stage runs this target ({provider}).")
    write_json(quality, found)
    return {f"relative_error_{name}": value for name, value in errors.items()}


if __name__ == "__main__":
    main()
