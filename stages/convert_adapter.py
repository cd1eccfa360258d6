"""Turn one PEFT adapter into the file that ONNX Runtime loads for one target."""

from pathlib import Path

import click

from olivepress.core.outputs import atomic_output, write_json
from olivepress.core.stage import InFolder, Out, stage
from olivepress.export.adapter import convert


@stage
@click.option("--adapter", type=InFolder, required=True, help="PEFT adapter folder.")
@click.option("--model", type=InFolder, required=True, help="Exported model folder with open LoRA inputs.")
@click.option("--out", type=Out, required=True, help="The .onnx_adapter file.")
@click.option("--quality", type=Out, required=True, help="JSON: size, projections.")
def main(adapter: Path, model: Path, out: Path, quality: Path) -> None:
    """Write the adapter for the graph in MODEL to OUT, in the graph's dtype, its scaling folded in."""
    with atomic_output(out) as scratch:
        count = convert(adapter, model, scratch)
    write_json(quality, {"bytes": out.stat().st_size, "lora_projections": count})


if __name__ == "__main__":
    main()
