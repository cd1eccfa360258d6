"""Show the first rows of a data set, and which part of them is trained on: olivepress data head data/travel.jsonl"""

from itertools import islice
from pathlib import Path

import click

from olivepress.core.errors import PressError
from olivepress.core.prepared import Prepared
from olivepress.core.strict_yaml import read_yaml
from olivepress.data.dataset import source_from
from olivepress.data.encode import Encoder
from olivepress.data.formats import FORMATS, Pair, Row
from olivepress.data.problems import Problems
from olivepress.data.sources import read_source

MODEL = Path("models/base")


@click.command()
@click.argument("data", nargs=-1, required=True)
@click.option("--rows", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--format", type=click.Choice(FORMATS), help="Of the rows; found by the names of their fields if left out."
)
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="A field that has another name.")
@click.option("--split", help="Of a data set on the hub; train if left out.")
@click.option("--subset", help="Of a data set on the hub.")
@click.option("--limit", type=click.IntRange(1), help="Read this many rows, not all.")
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=f"Checkpoint folder whose template and tokenizer render the rows. [default: {MODEL}, once it is there]",
)
@click.option("--template", help='"chat", or a text with {prompt} and {response}. [default: that of params.yaml]')
def main(
    data: tuple[str, ...],
    rows: int,
    format: str | None,
    columns: tuple[str, ...],
    split: str | None,
    subset: str | None,
    limit: int | None,
    model: Path | None,
    template: str | None,
) -> None:
    """Print the first ROWS rows of DATA (files, or hf://datasets/owner/name@commit), every row of it checked.

    With a model, rows are shown as it will see them, and what is trained on is marked: in colour, or between ⟦ and ⟧.
    """
    source = source_from(data, format=format, columns=columns, split=split, subset=subset, rows=limit)
    problems = Problems(source.name)
    found = read_source(source, problems)
    first = list(islice(found, rows))
    count = len(first) + sum(1 for _ in found)
    problems.raise_any()
    if not count:
        raise PressError(f"{source.name}: the data set is empty. Expected rows.")
    model = model or (MODEL if MODEL.is_dir() else None)
    texts = _rendered(first, model, template) if model else [_plain(row) for row in first]
    for row, text in zip(first, texts, strict=True):
        click.echo(f"{click.style(row.where, dim=True)}\n{text}\n")
    click.echo(f"{len(first)} of {count:,} rows of {source.name}")


def _plain(row: Row | Pair) -> str:
    if isinstance(row, Pair):
        parts = [*row.prompt, *({**one, "role": "chosen"} for one in row.chosen)]
        parts += [{**one, "role": "rejected"} for one in row.rejected]
    else:
        parts = row.messages
    names = {"user": "prompt", "assistant": "response"}
    said = [(names.get(part["role"], part["role"]), part) for part in parts]
    return "\n".join(f"{name + ':':<9} {part['content'] or part.get('tool_calls')}" for name, part in said)


def _rendered(rows: list[Row | Pair], model: Path, template: str | None) -> list[str]:
    from olivepress.core.tokenizer import load_tokenizer

    if template is None:
        params = Path("params.yaml")
        template = read_yaml(params).value["text"]["template"] if params.is_file() else "chat"
    tokenizer = load_tokenizer(model, trust_remote_code=False)

    def marked(row: Prepared) -> str:
        text, place = "", 0
        for start, end in row.answers:
            answer = tokenizer.decode(row.input_ids[start:end], clean_up_tokenization_spaces=False)
            before = tokenizer.decode(row.input_ids[place:start], clean_up_tokenization_spaces=False)
            text += before + click.style(f"⟦{answer}⟧", fg="green")
            place = end
        return text

    texts = []
    for row, found in zip(rows, Encoder(tokenizer, template).encode(rows), strict=True):
        if isinstance(found, ValueError):
            raise PressError(f"{row.where}: {found}")
        parts = [found] if isinstance(found, Prepared) else [found.chosen, found.rejected]
        texts.append("\n".join(marked(part) for part in parts))
    return texts
