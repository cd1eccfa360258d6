"""Measure every step of the pipeline with one adapter: on its held-out rows, and what it forgets of general ones."""

from pathlib import Path

import click

from olivepress.core.lacks import need_memory
from olivepress.core.outputs import read_json, sizes, write_csv, write_json
from olivepress.core.proof import never_run
from olivepress.core.report import note
from olivepress.core.stage import InFile, InFolder, Out, stage
from olivepress.evaluate.exported import Exported
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

    Of a target that is exported only (FACTS) what PyTorch made of them, and no more.
    """
    ran = not (facts and never_run(read_json(facts)))
    if not ran:
        note(f"{onnx}: exported, its structure checked, never run here: the figures are PyTorch's alone.")
    # below it SciPy's BLAS does not fail as it is loaded, but asks for memory again and again
    need_memory(sum(sizes(onnx).values()), f"{onnx}, which ONNX Runtime loads,")
    exported = Exported(onnx, onnx_adapter) if ran else None
    sets = {}
    for name in ("held_out", "general"):
        torch = Scores.load(reference / name / SCORES)
        tops = load_top(reference / name / TOP)
        sets[name] = torch
        for step in tops if exported else ():
            adapted = step == "finetuned"
            sets[name] = sets[name].with_(exported.measure(torch, tops[step], step, name, adapted=adapted))
    sets["general"] = Scores.load(general).with_(sets["general"])
    found = {name: quality(scores) for name, scores in sets.items()}
    write_json(metrics, found)
    write_json(ranges, [entry for name, scores in sets.items() for entry in intervals(scores, name)])
    write_json(shown, [entry for name, scores in sets.items() for entry in samples(scores, name)])
    write_csv(plot, ("step", "loss"), found["held_out"]["loss"].items())


if __name__ == "__main__":
    main()
