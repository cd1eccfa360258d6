"""Train one LoRA adapter on the dequantized checkpoint: it learns on the weights that will ship."""

from pathlib import Path

import click

from olivepress.core.checkpoint import weight_bytes
from olivepress.core.lacks import need_memory
from olivepress.core.machine import take_threads
from olivepress.core.outputs import atomic_output, write_csv, write_json
from olivepress.core.prepared import read_preferences, read_prepared
from olivepress.core.stage import InFolder, Number, Out, stage
from olivepress.finetune.live import Curves
from olivepress.finetune.lora import LoraSettings, finetune
from olivepress.finetune.parallel import PARALLEL


@stage
@click.option("--model", type=InFolder, required=True, help="Quantized (or plain) checkpoint folder.")
@click.option("--data", type=InFolder, required=True, help="Prepared data: train.jsonl and held_out.jsonl.")
@click.option("--method", type=click.Choice(["sft", "dpo"]), default="sft", help="dpo: data are pairs of answers.")
@click.option("--beta", type=Number(0, 1000, min_open=True), default=0.1, help="dpo: how far it may go from the base.")
@click.option("--train-on", type=click.Choice(["answers", "all"]), default="answers", help="Tokens that count.")
@click.option("--packing/--no-packing", default=False, help="Short rows share a sequence, unseen by one another.")
@click.option("--group-by-length/--no-group-by-length", default=False, help="Rows of a step are about as long.")
@click.option("--rank", type=click.IntRange(1, 1024), default=64)
@click.option("--alpha", type=Number(0, min_open=True), default=16)
@click.option("--rank-pattern", default="", help="Other ranks of some modules: q_proj=8, layers.0.o_proj=4.")
@click.option("--alpha-pattern", default="", help="Other alphas of some modules, likewise.")
@click.option("--rslora/--no-rslora", default=False, help="Scale by alpha / sqrt(rank), not alpha / rank.")
@click.option("--dropout", type=Number(0, 1, max_open=True), default=0.05)
@click.option(
    "--target-modules", default="default", help='"default" for the architecture, "all-linear", or names, a,b.'
)
@click.option("--steps", type=click.IntRange(1), default=100)
@click.option("--batch-size", type=click.IntRange(1), default=4, help="Rows a step, whatever shares them.")
@click.option("--gradient-accumulation-steps", type=click.IntRange(1), default=1, help="Parts of a step's rows.")
@click.option("--learning-rate", type=Number(0, min_open=True), default=2e-4)
@click.option(
    "--schedule", type=click.Choice(["linear", "cosine", "constant"]), default="linear", help="After warm-up."
)
@click.option("--warmup-ratio", type=Number(0, 1, max_open=True), default=0.05, help="Share of the steps.")
@click.option("--weight-decay", type=Number(0, 1), default=0.0)
@click.option("--sequence-length", type=click.IntRange(8), default=1024, help="Tokens a row; longer rows are cut.")
@click.option("--eval-steps", type=click.IntRange(1), default=20, help="Steps between held-out losses.")
@click.option("--eval-rows", type=click.IntRange(1), default=200, help="Held-out rows that these are taken on.")
@click.option("--early-stopping", type=click.IntRange(0), default=0, help="Evaluations without a gain; 0: never.")
@click.option("--gradient-checkpointing/--no-gradient-checkpointing", default=True, help="Less memory, more time.")
@click.option("--seed", type=int, default=0)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="bfloat16")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--processes", type=click.IntRange(1), default=1, help="Processes that share a batch; one a GPU.")
@click.option("--parallel", type=click.Choice(PARALLEL), default="none", help="How they do: see docs/azure.md.")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, help="PyTorch's on the CPU; 0: as many as cores.")
@click.option("--trust-remote-code/--no-trust-remote-code", default=False)
@click.option("--out", type=Out, required=True, help="Folder for the PEFT adapter.")
@click.option("--quality", type=Out, required=True, help="JSON: losses and size.")
@click.option("--plot", type=Out, required=True, help="CSV: rows (training, held out), step, loss.")
@click.option("--live-metrics", type=Out, help="JSON: DVCLive's latest losses, while it trains.")
@click.option("--live-plots", type=Out, help="Folder: DVCLive's tables of them.")
def main(
    model: Path,
    data: Path,
    threads: int,
    trust_remote_code: bool,
    out: Path,
    quality: Path,
    plot: Path,
    live_metrics: Path | None,
    live_plots: Path | None,
    **settings: str | int | float | bool,
) -> None:
    """Write a plain PEFT adapter to OUT, the best by held-out loss, with its loss curves."""
    need_memory(weight_bytes(model), str(model))
    take_threads(threads)
    read = read_preferences if settings["method"] == "dpo" else read_prepared
    train, held_out = (read(data / f"{side}.jsonl") for side in ("train", "held_out"))
    watch = Curves(live_metrics, live_plots) if live_metrics and live_plots else None
    lora = LoraSettings(**settings)
    with atomic_output(out) as scratch:
        done = finetune(model, train, held_out, scratch, lora, trust_remote_code=trust_remote_code, watch=watch)
        weights = (scratch / "adapter_model.safetensors").stat().st_size
    curves = {"training": done.curve("loss"), "held out": done.curve("eval_loss")}
    points = [(rows, step, round(loss, 4)) for rows, curve in curves.items() for step, loss in curve]
    write_csv(plot, ("rows", "step", "loss"), points)
    write_json(quality, {**done.metrics(), "adapter_bytes": weights})


if __name__ == "__main__":
    main()
