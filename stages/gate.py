"""Hold one target's metrics to the thresholds: a missed one stops the release, and not the measuring."""

from pathlib import Path

import click
from tabulate import tabulate

from olivepress.core.errors import PressError
from olivepress.core.gates import Thresholds, failed_thresholds, read_measured, verdicts, worst
from olivepress.core.outputs import read_json, write_json
from olivepress.core.proof import EXPORTED_ONLY, never_run
from olivepress.core.report import note
from olivepress.core.stage import InFolder, Number, Out, stage


@stage
@click.option("--results", type=InFolder, required=True, help="Folder of what the stages measured.")
@click.option("--target", required=True, help="The target's name.")
@click.option("--adapter", "adapters", multiple=True, help="An adapter that ships; repeat for more.")
@click.option("--max-quantization-loss-increase", type=Number(), required=True, help="Of loss(quantized) - loss(base).")
@click.option("--min-finetuning-gain", type=Number(), required=True, help="Of loss(quantized) - loss(finetuned).")
@click.option("--max-forgetting", type=Number(), required=True, help="Of the same the other way, on general data.")
@click.option("--max-export-loss-increase", type=Number(), required=True, help="Of loss(ONNX Runtime) - loss(PyTorch).")
@click.option("--max-kl-divergence", type=Number(0), required=True, help="Of ONNX Runtime from PyTorch.")
@click.option("--min-same-top-token", type=Number(0, 1), required=True, help="Of the share of same top tokens.")
@click.option("--max-bytes", type=click.IntRange(1), required=True, help="Of model and adapters together.")
@click.option("--max-loss-increase-since-release", type=Number(), required=True, help="Of what ships.")
@click.option(
    "--max-size-ratio-to-release", type=Number(0), required=True, help="Of bytes / bytes of the last release."
)
@click.option("--min-relative-speed", type=Number(0), required=True, help="Of tokens a second with / without adapter.")
@click.option("--quality", type=Out, required=True, help="JSON: the worst value for each threshold.")
def main(results: Path, target: str, adapters: tuple[str, ...], quality: Path, **thresholds: float) -> None:
    """Print every metric with its threshold; write QUALITY if all of them hold, fail if one is missed.

    Losses are in nats per answer token. A threshold is missed if the whole 95 % interval is on its wrong side. Speed
    is this machine's: it is judged where this machine ran smoke-infer, and written nowhere.
    """
    measured = read_measured(results, target, adapters)
    never = never_run(read_json(results / f"quality/auto-opt/{target}.json"))
    if never:
        note(f"{target}: exported, its structure checked, never run here: held to PyTorch's losses and its size alone.")
    found = verdicts(measured, Thresholds(**thresholds))
    rows = [("ok" if each.ok else "missed", each.metric, str(each.figure), each.bound) for each in found]
    click.echo(tabulate(rows, ("", "metric", "value (95 %)", "threshold"), tablefmt="plain", disable_numparse=True))
    missed = failed_thresholds(found)
    if missed:
        raise PressError(
            f"{target} misses {len(missed)} of {len(found)} thresholds, and nothing is registered:\n  "
            + "\n  ".join(missed)
            + "\nTrain longer (finetune), change what loses (quantize, targets), or the thresholds in params.yaml."
        )
    judged = worst(each for each in found if each.threshold != "min_relative_speed")
    write_json(quality, {**judged, **({EXPORTED_ONLY: True} if never else {})})


if __name__ == "__main__":
    main()
