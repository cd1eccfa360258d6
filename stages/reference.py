"""Score every step in PyTorch on an adapter's held-out rows, and the adapter on general ones, once for all targets."""

from pathlib import Path

import click

from olivepress.core.checkpoint import weight_bytes
from olivepress.core.lacks import need_memory
from olivepress.core.machine import take_threads
from olivepress.core.outputs import atomic_output
from olivepress.core.stage import InFile, InFolder, Out, stage
from olivepress.core.template import unescape
from olivepress.core.tokenizer import load_tokenizer
from olivepress.evaluate.pytorch import TorchModel, TorchSettings
from olivepress.evaluate.reference import Measured, held_out, measured
from olivepress.evaluate.scores import SCORES, Scores


@stage
@click.option("--base", type=InFolder, required=True, help="Checkpoint folder.")
@click.option("--quantized", type=InFolder, required=True, help="Quantized checkpoint folder.")
@click.option("--peft-adapter", type=InFolder, required=True, help="The adapter as a PEFT folder.")
@click.option("--data", type=InFile, required=True, help="Its held_out.jsonl, as prepare wrote it.")
@click.option("--general", type=InFolder, required=True, help="What reference_base wrote.")
@click.option("--template", default="chat", help='How rows were rendered: "chat", or a text template.')
@click.option("--sequence-length", type=click.IntRange(8), default=1024, help="Tokens a row; longer rows are cut.")
@click.option("--held-out-rows", type=click.IntRange(1), default=48, help="Rows at most, evenly spread over the file.")
@click.option("--generate-rows", type=click.IntRange(0), default=8, help="Of these, how many are answered, too.")
@click.option("--answer-tokens", type=click.IntRange(1), default=48, help="Tokens of an answer at most.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", help="PyTorch's.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="PyTorch's.")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, help="PyTorch's on the CPU; 0: as many as cores.")
@click.option("--trust-remote-code/--no-trust-remote-code", default=False)
@click.option("--out", type=Out, required=True, help="Folder: rows, what each step scores on each, likeliest tokens.")
def main(
    base: Path,
    quantized: Path,
    peft_adapter: Path,
    data: Path,
    general: Path,
    template: str,
    sequence_length: int,
    held_out_rows: int,
    generate_rows: int,
    answer_tokens: int,
    dtype: str,
    device: str,
    threads: int,
    trust_remote_code: bool,
    out: Path,
) -> None:
    """Write to OUT what each step scores on DATA and what the adapter scores on the rows of GENERAL."""
    need_memory(weight_bytes(quantized), str(quantized))
    take_threads(threads)
    tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
    settings = TorchSettings(dtype, device, trust_remote_code)
    own = measured(
        held_out(data),
        tokenizer,
        unescape(template),
        what=str(data),
        sequence_length=sequence_length,
        limit=held_out_rows,
        generate_rows=generate_rows,
        answer_tokens=answer_tokens,
    )
    own.add(TorchModel(base, settings), "base", "held-out", tokenizer)
    model = TorchModel(quantized, settings, peft_adapter)
    with model.without_adapter():
        own.add(model, "quantized", "held-out")
    own.add(model, "finetuned", "held-out", tokenizer)
    known = Scores.load(general / SCORES)
    forgotten = Measured(Scores(known.rows, known.answer_tokens, known.questions))
    forgotten.add(model, "finetuned", "general", tokenizer)
    with atomic_output(out) as scratch:
        own.save(scratch / "held_out", ("quantized", "finetuned"))
        forgotten.save(scratch / "general", ("finetuned",))


if __name__ == "__main__":
    main()
