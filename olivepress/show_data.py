"""Show the first rows of a data set: python -m olivepress.show_data data/travel.jsonl"""

from pathlib import Path

import click

from olivepress.dataset import read_rows


@click.command()
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rows", type=click.IntRange(1), default=5, show_default=True)
def main(data: Path, rows: int) -> None:
    """Print the first ROWS prompts and responses of DATA, every row of it checked."""
    found = read_rows(data)
    for row in found[:rows]:
        click.echo(f"prompt:   {row.prompt}\nresponse: {row.response}\n")
    click.echo(f"{min(rows, len(found))} of {len(found)} rows of {data}")


if __name__ == "__main__":
    main()
