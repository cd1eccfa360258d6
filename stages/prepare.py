"""Check one adapter's data set, split it, and write the tokens that the model will see."""

from functools import partial
from pathlib import Path

import click

from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output, read_json, write_json
from olivepress.core.stage import InFile, InFolder, Number, Out, stage
from olivepress.core.template import check_template, unescape
from olivepress.core.tokenizer import load_tokenizer
from olivepress.data.dataset import source_from, source_of
from olivepress.data.encode import Encoder
from olivepress.data.formats import FORMATS
from olivepress.data.prepare import METHODS, PrepareSettings, prepare


@partial(stage, hub=True)
@click.option("--data", multiple=True, help="File or folder of rows (docs/data.md), hf://datasets/owner/name@commit.")
@click.option(
    "--format", type=click.Choice(FORMATS), help="Of the rows; found by the names of their fields if left out."
)
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="A field that has another name.")
@click.option("--split", help="Of a data set on the hub; train if left out.")
@click.option("--subset", help="Of a data set on the hub.")
@click.option("--rows", type=click.IntRange(1), help="The first so many.")
@click.option("--bad-rows", type=click.Choice(["refuse", "drop"]), help="What to do with them; refuse if left out.")
@click.option("--settings", type=InFile, help="JSON of check_params: data, sequence length, method. In place of these.")
@click.option("--model", type=InFolder, required=True, help="Checkpoint folder with the tokenizer.")
@click.option("--template", default="chat", help='"chat", or a text with {prompt} and {response}; \\n is a line break.')
@click.option("--date", default="", help="YYYY-MM-DD, which a chat template gets as today.")
@click.option("--held-out", type=Number(0, 0.9, min_open=True), default=0.1, help="Share that is held out.")
@click.option("--similarity", type=Number(0, 1, min_open=True), default=0.7, help="Of rows that stay on one side.")
@click.option("--sequence-length", type=click.IntRange(8), help="Tokens of a row that finetune will read.")
@click.option("--method", type=click.Choice([*METHODS]), help="Of finetune, which the rows have to be for.")
@click.option("--trust-remote-code/--no-trust-remote-code", default=False)
@click.option("--out", type=Out, required=True, help="Folder for train.jsonl and held_out.jsonl.")
@click.option("--inputs", type=Out, help="JSON: the data set and its SHA-256.")
@click.option("--quality", type=Out, required=True, help="JSON: counts and token lengths.")
def main(
    data: tuple[str, ...],
    format: str | None,
    columns: tuple[str, ...],
    split: str | None,
    subset: str | None,
    rows: int | None,
    bad_rows: str | None,
    settings: Path | None,
    model: Path,
    template: str,
    date: str,
    held_out: float,
    similarity: float,
    sequence_length: int | None,
    method: str | None,
    trust_remote_code: bool,
    out: Path,
    inputs: Path | None,
    quality: Path,
) -> None:
    """Validate every row, split by content, encode each row, and count."""
    check_template(unescape(template))
    if settings:
        found = read_json(settings)
        source, sequence_length, method = source_of(found["data"]), found["sequence_length"], found["method"]
    elif data:
        source = source_from(
            data, format=format, columns=columns, split=split, subset=subset, rows=rows, bad_rows=bad_rows
        )
    else:
        raise PressError("which data? Give --data, or --settings.")
    wanted = PrepareSettings(held_out, similarity, sequence_length, method)
    encoder = Encoder(load_tokenizer(model, trust_remote_code=trust_remote_code), template, date or None)
    with atomic_output(out) as scratch:
        scratch.mkdir()
        counts, digest = prepare(source, encoder, wanted, scratch)
    if inputs:
        write_json(inputs, source.inputs(digest))
    write_json(quality, counts)


if __name__ == "__main__":
    main()
