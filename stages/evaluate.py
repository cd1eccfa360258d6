"""Measure every step of the pipeline with one adapter: on its held-out rows, and what it forgets of general ones."""

from pathlib import Path

import click

from olivepress.core.lacks import need_memory
from olivepress.core.outputs import sizes, write_csv, write_json
from olivepress.core.stage import InFile, InFolder, Out, stage
from olivepress.evaluate.exported import Exported, graphs
from olivepress.evaluate.figures import intervals, quality, samples
from olivepress.evaluate.scores import SCORES, TOP, Scores, load_top


@stage
@click.option("--onnx", type=InFolder, required=True, help="Exported model folder.")
@click.option("--onnx-adapter", type=InFile, required=True, help="The adapter as an .onnx_adapter file.")
@click.option("--facts", type=InFile, help="What auto_opt wrote of the target: one that no stage runs is not run here.")
@click.option("--reference", type=InFolder, required=True, help="What the stage reference wrote of the adapter.")
@click.option("--general", type=InFile, required=True, help="What evaluate_base measured of each general row.")
@click.option("--quality", "metrics", type=Out, required=True, help="JSON: each metric by step, on both sets.")
@click.option("--intervals", "ranges", type=Out, required=True, help="JSON: the intervals of metrics and differences.")
@click.option("--samples", "shown", type=Out, required=True, help="JSON: a few questions and their answers.")
@click.option("--plot", type=Out, required=True, help="CSV: step, loss on the held-out rows.")
def main(
    onnx: Path,
    onnx_adapter: Path,
    facts: Path | None,
    reference: Path,
    general: Path,
    metrics: Path,
    ranges: Path,
    shown: Path,
    plot: Path,
) -> None:
    """Write what ONNX Runtime makes of the rows of REFERENCE, beside what PyTorch made of them.

    Of a model with two graphs, by either of them; of a target that is exported only (FACTS), by none.
    """
    # below it SciPy's BLAS does not fail as it is loaded, but asks for memory again and again
    need_memory(sum(sizes(onnx).values()), f"{onnx}, which ONNX Runtime loads,")
    sets = {name: Scores.load(reference / name / SCORES) for name in ("held_out", "general")}
    for graph in graphs(onnx, facts):
        exported = Exported(onnx, onnx_adapter, graph=graph)
        for name, torch in sets.items():
            for step, top in load_top(reference / name / TOP).items():
                found = exported.measure(torch, top, step, name, adapted=step == "finetuned")
                sets[name] = sets[name].with_(found)
        del exported  # and its memory: a large model shall not be there twice
    sets["general"] = Scores.load(general).with_(sets["general"])
    figures = {name: quality(scores) for name, scores in sets.items()}
    write_json(metrics, figures)
    write_json(ranges, [entry for name, scores in sets.items() for entry in intervals(scores, name)])
    write_json(shown, [entry for name, scores in sets.items() for entry in samples(scores, name)])
    write_csv(plot, ("step", "loss"), figures["held_out"]["loss"].items())


if __name__ == "__main__":
    main()
