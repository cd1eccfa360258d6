"""Check one adapter's data set, split it, and write the texts that the model will see."""

import json
from pathlib import Path

import click

from olivepress.dataset import check_template, read_rows, render, split, unescape
from olivepress.errors import PressError
from olivepress.outputs import sha256, whole, write_json
from olivepress.pretrained import load_tokenizer
from olivepress.stage import InFile, InFolder, Number, Out, stage


@stage
@click.option("--data", type=InFile, required=True, help='JSON lines, {"prompt": …, "response": …}.')
@click.option("--model", type=InFolder, required=True, help="Checkpoint folder with the tokenizer.")
@click.option("--template", default="chat", help='"chat", or a text with {prompt} and {response}; \\n is a line break.')
@click.option("--held-out", type=Number(0, 0.9, min_open=True), default=0.1, help="Share that is held out.")
@click.option("--trust-remote-code/--no-trust-remote-code", default=False)
@click.option("--out", type=Out, required=True, help="Folder for train.jsonl and held_out.jsonl.")
@click.option("--quality", type=Out, required=True, help="JSON: counts and token lengths.")
def main(
    data: Path, model: Path, template: str, held_out: float, trust_remote_code: bool, out: Path, quality: Path
) -> None:
    """Validate every row, split by content, render each row as text, and count."""
    template = unescape(template)
    check_template(template)
    rows = read_rows(data)
    sides = dict(zip(("train", "held_out"), split(rows, held_out), strict=True))
    for name, side in sides.items():
        if not side:
            raise PressError(
                f"{data}: {len(rows)} rows leave none for {name} at prepare.held_out {held_out}: add rows."
            )
    tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
    lengths: dict[str, list[int]] = {}
    with whole(out) as scratch:
        scratch.mkdir()
        for name, side in sides.items():
            texts = [render(template, row, tokenizer) for row in side]
            lengths[name] = sorted(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
            lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
            (scratch / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts = {
        name: {
            "rows": len(found),
            "tokens": sum(found),
            "median_tokens": found[len(found) // 2],
            "longest_tokens": found[-1],
        }
        for name, found in lengths.items()
    }
    write_json(quality, {"data": data.as_posix(), "sha256": sha256(data), **counts})


if __name__ == "__main__":
    main()
