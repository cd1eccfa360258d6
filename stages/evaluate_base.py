"""Measure what a target loses without an adapter, on data that no adapter was trained for."""

from pathlib import Path

import click

from olivepress.core.outputs import atomic_output, sizes, write_csv, write_json
from olivepress.core.stage import InFile, InFolder, Out, stage
from olivepress.evaluate.exported import Exported, graphs
from olivepress.evaluate.figures import intervals, quality, samples
from olivepress.evaluate.scores import SCORES, TOP, Scores, load_top


@stage
@click.option("--base", type=InFolder, required=True, help="Checkpoint folder.")
@click.option("--quantized", type=InFolder, required=True, help="Quantized checkpoint folder.")
@click.option("--onnx", type=InFolder, required=True, help="Exported model folder.")
@click.option("--facts", type=InFile, help="What auto_opt wrote of the target: one that no stage runs is not run here.")
@click.option("--reference", type=InFolder, required=True, help="What reference_base wrote.")
@click.option("--scores", type=Out, required=True, help="JSON: what was measured of each row, for evaluate.")
@click.option("--quality", "metrics", type=Out, required=True, help="JSON: each metric by step.")
@click.option("--intervals", "ranges", type=Out, required=True, help="JSON: the intervals of metrics and differences.")
@click.option("--samples", "shown", type=Out, required=True, help="JSON: a few questions and their answers.")
@click.option("--plot", type=Out, required=True, help="CSV: step, loss.")
@click.option("--size-plot", type=Out, required=True, help="CSV: step, megabytes of its folder.")
def main(
    base: Path,
    quantized: Path,
    onnx: Path,
    facts: Path | None,
    reference: Path,
    scores: Path,
    metrics: Path,
    ranges: Path,
    shown: Path,
    plot: Path,
    size_plot: Path,
) -> None:
    """Write what ONNX Runtime makes of the rows of REFERENCE, beside what PyTorch made of them.

    Of a model with two graphs, by either of them; of a target that is exported only (FACTS), by none.
    """
    torch = Scores.load(reference / SCORES)
    top = load_top(reference / TOP)["quantized"]
    general = torch
    for graph in graphs(onnx, facts):
        found = Exported(onnx, graph=graph).measure(torch, top, "quantized", "general", adapted=False)
        general = general.with_(found)
    with atomic_output(scores) as scratch:
        general.save(scratch)
    figures = quality(general)
    write_json(metrics, {"general": figures})
    write_json(ranges, list(intervals(general, "general")))
    write_json(shown, samples(general, "general"))
    write_csv(plot, ("step", "loss"), figures["loss"].items())
    folders = {"base": base, "quantized": quantized, "quantized_onnx": onnx}
    megabytes = [(step, round(sum(sizes(folder).values()) / 1e6, 2)) for step, folder in folders.items()]
    write_csv(size_plot, ("step", "megabytes"), megabytes)


if __name__ == "__main__":
    main()
