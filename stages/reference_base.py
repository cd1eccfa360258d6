"""Score base and quantized model in PyTorch on data that no adapter was trained for, once for all targets."""

from pathlib import Path

import click

from olivepress.core.checkpoint import weight_bytes
from olivepress.core.errors import PressError
from olivepress.core.lacks import need_memory
from olivepress.core.machine import take_threads
from olivepress.core.outputs import atomic_output
from olivepress.core.params import load_params
from olivepress.core.stage import InFile, InFolder, Out, stage
from olivepress.core.template import unescape
from olivepress.core.tokenizer import load_tokenizer
from olivepress.data.encode import encode_rows
from olivepress.evaluate.pytorch import TorchModel, TorchSettings
from olivepress.evaluate.reference import measured


@stage
@click.option("--base", type=InFolder, required=True, help="Checkpoint folder.")
@click.option("--quantized", type=InFolder, required=True, help="Quantized checkpoint folder.")
@click.option("--general-data", type=InFile, help="Questions and answers, in any form that data may have.")
@click.option("--template", default="chat", help='How they are rendered: "chat", or a text template.')
@click.option(
    "--params", type=InFile, help="params.yaml: evaluate.general_data; prepare.date, for a template that writes it."
)
@click.option("--sequence-length", type=click.IntRange(8), default=1024, help="Tokens a row; longer rows are cut.")
@click.option("--general-rows", type=click.IntRange(1), default=48, help="Rows at most, evenly spread over the file.")
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
    general_data: Path | None,
    template: str,
    params: Path | None,
    sequence_length: int,
    general_rows: int,
    generate_rows: int,
    answer_tokens: int,
    dtype: str,
    device: str,
    threads: int,
    trust_remote_code: bool,
    out: Path,
) -> None:
    """Write to OUT what base and quantized model score on GENERAL_DATA, and what the base answers."""
    need_memory(weight_bytes(quantized), str(quantized))
    take_threads(threads)
    known = load_params(params) if params else None
    data = general_data or (known and Path(known.evaluate.general_data))  # its name may have blanks and quotes
    if data is None or not data.is_file():
        raise PressError(f"no data: {data}. Give --general-data, or --params with evaluate.general_data, a file.")
    date = known.prepare.date if known else ""
    tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
    settings = TorchSettings(dtype, device, trust_remote_code)
    general = measured(
        encode_rows(data, tokenizer, template, date=date or None),
        tokenizer,
        unescape(template),
        what=str(data),
        sequence_length=sequence_length,
        limit=general_rows,
        generate_rows=generate_rows,
        answer_tokens=answer_tokens,
    )
    general.add(TorchModel(base, settings), "base", "general", tokenizer)
    general.add(TorchModel(quantized, settings), "quantized", "general")
    with atomic_output(out) as scratch:
        general.save(scratch, ("quantized",))


if __name__ == "__main__":
    main()
