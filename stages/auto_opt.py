"""Export the quantized base for one target, with open LoRA inputs. Knows of no adapter."""

from pathlib import Path

import click

from olivepress import checkpoint
from olivepress.gate_up import pack_gate_up
from olivepress.lora_inputs import BLOCKS, add_lora_inputs
from olivepress.lora_operator import check_built, ship
from olivepress.olive_pass import PROVIDERS
from olivepress.onnx_export import ACTIVATIONS, HEADS, MODEL, Target, export
from olivepress.outputs import sizes, whole, write_json
from olivepress.rotary_caches import replace_if
from olivepress.session_options import set_session_options
from olivepress.stage import InFolder, Out, stage


@stage
@click.option("--model", type=InFolder, required=True, help="Quantized checkpoint folder.")
@click.option(
    "--provider", type=click.Choice(PROVIDERS), default=PROVIDERS[0], help="Execution provider of the target."
)
@click.option(
    "--precision", type=click.Choice(["int4", "int8"]), default="int4", help="Weights of what is not quantized yet."
)
@click.option("--lm-head", type=click.Choice(list(HEADS)), default="int8", help="How the output head is stored.")
@click.option(
    "--activations", type=click.Choice(list(ACTIVATIONS)), default="int8", help="What int4 layers compute in."
)
@click.option("--lora-inputs", type=click.Choice(list(BLOCKS)), default="all", help="What an adapter may change.")
@click.option("--lora-operator/--no-lora-operator", default=False, help="Adapters by native operators (Linux, x86-64).")
@click.option("--cuda-graph/--no-cuda-graph", default=True, help="CUDA: replay the decoding step as a graph.")
@click.option("--trust-remote-code/--no-trust-remote-code", default=False)
@click.option("--out", type=Out, required=True, help="Folder for the ONNX Runtime GenAI model.")
@click.option("--quality", type=Out, required=True, help="JSON: sizes.")
def main(
    model: Path,
    provider: str,
    precision: str,
    lm_head: str,
    activations: str,
    lora_inputs: str,
    lora_operator: bool,
    cuda_graph: bool,
    trust_remote_code: bool,
    out: Path,
    quality: Path,
) -> None:
    """Write model.onnx, its data, genai_config.json and the tokenizer to OUT."""
    checkpoint.check(model)
    if lora_operator:
        check_built()
    with whole(out) as scratch:
        export(model, scratch, Target(provider, precision, lm_head, activations), trust_remote_code=trust_remote_code)
        original_length = replace_if(scratch / MODEL)
        pack_gate_up(scratch / MODEL)
        count = add_lora_inputs(scratch / MODEL, lora_inputs, operator=provider if lora_operator else None)
        if lora_operator:
            ship(scratch)
        set_session_options(scratch, provider, cuda_graph=cuda_graph, original_length=original_length)
        checkpoint.carry_licence(model, scratch)
    files = sizes(out)
    write_json(quality, {"bytes": sum(files.values()), "lora_projections": count, "files": files})


if __name__ == "__main__":
    main()
