"""Measure what each step costs and wins on held-out data, and hold it to the bounds in params.yaml."""

from pathlib import Path
from typing import Any

import click

from olivepress.dataset import check_template, read_rows, read_texts, render, unescape
from olivepress.errors import PressError
from olivepress.evaluation import Subject, evaluate
from olivepress.gates import Bounds, misses
from olivepress.generation import find_adapters
from olivepress.olive_pass import PROVIDERS
from olivepress.outputs import write_json
from olivepress.pretrained import load_tokenizer
from olivepress.stage import InFile, InFolder, Number, Out, stage

Bound = Number(0)


@stage
@click.option("--base", type=InFolder, required=True)
@click.option("--quantized", type=InFolder, required=True)
@click.option("--peft-adapters", type=InFolder, required=True, help="Folder of PEFT adapter folders.")
@click.option("--onnx", type=InFolder, required=True, help="Exported model folder.")
@click.option("--onnx-adapters", type=InFolder, required=True, help="Folder of .onnx_adapter files.")
@click.option("--data", type=InFolder, required=True, help="Folder of prepared data folders.")
@click.option("--general-data", type=InFile, help="Prompt/response rows to see what quantization alone costs.")
@click.option("--template", default="chat", help='How those are rendered: "chat", or a text template.')
@click.option("--smoke", type=InFile, help="smoke-infer's answers: a model that cannot answer is not worth measuring.")
@click.option("--adapter", "names", multiple=True, help="An adapter to evaluate; repeat for more.")
@click.option("--provider", type=click.Choice(PROVIDERS), default=PROVIDERS[0])
@click.option("--sequence-length", type=click.IntRange(8), default=1024, help="Tokens a row; longer rows are cut.")
@click.option("--max-rows", type=click.IntRange(1), default=1000, help="Of each data set, from the first.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", help="PyTorch's.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="PyTorch's.")
@click.option(
    "--max-quantization-cost", type=Number(), required=True, help="Bound on loss(quantized) - loss(base), nats a token."
)
@click.option("--min-finetuning-gain", type=Number(), required=True, help="Bound on loss(quantized) - loss(finetuned).")
@click.option("--max-export-cost", type=Number(), required=True, help="Bound on loss(ONNX Runtime) - loss(PyTorch).")
@click.option(
    "--max-relative-error", type=Bound, required=True, help="Bound on |onnx - torch| / |torch| of the logits."
)
@click.option("--min-same-top-token", type=Number(0, 1), required=True, help="Bound on the agreeing share.")
@click.option("--trust-remote-code/--no-trust-remote-code", default=False)
@click.option("--quality", type=Out, required=True, help="JSON: losses, perplexities, agreement.")
def main(
    base: Path,
    quantized: Path,
    peft_adapters: Path,
    onnx: Path,
    onnx_adapters: Path,
    data: Path,
    general_data: Path | None,
    template: str,
    smoke: Path | None,
    names: tuple[str, ...],
    provider: str,
    sequence_length: int,
    max_rows: int,
    dtype: str,
    device: str,
    trust_remote_code: bool,
    quality: Path,
    **bounds: Any,
) -> None:
    """Write held-out losses along the pipeline to QUALITY; fail if a figure misses its bound."""
    subject = Subject(
        base=base,
        quantized=quantized,
        adapters={name: peft_adapters / name for name in names},
        onnx=onnx,
        onnx_adapters=find_adapters(onnx_adapters, names),
        provider=provider,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    texts = {name: read_texts(data / name / "held_out.jsonl") for name in names}
    if general_data:
        template = unescape(template)
        check_template(template)
        tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
        texts["general"] = [render(template, row, tokenizer) for row in read_rows(general_data)]
    figures = evaluate(subject, {name: rows[:max_rows] for name, rows in texts.items()}, sequence_length)
    missed = misses(figures, Bounds(**bounds))
    if missed:
        raise PressError("evaluate: " + "; ".join(missed) + ". Nothing is registered.")
    write_json(quality, figures)


if __name__ == "__main__":
    main()
