"""Train one LoRA adapter on the dequantized checkpoint: it learns on the weights that will ship."""

from pathlib import Path

import click

from olivepress.dataset import read_texts
from olivepress.lora import LoraSettings, finetune
from olivepress.lora_parallel import PARALLEL
from olivepress.outputs import whole, write_csv, write_json
from olivepress.stage import InFolder, Number, Out, stage


@stage
@click.option("--model", type=InFolder, required=True, help="Quantized (or plain) checkpoint folder.")
@click.option("--data", type=InFolder, required=True, help="Prepared data: train.jsonl and held_out.jsonl.")
@click.option("--rank", type=click.IntRange(1, 1024), default=64)
@click.option("--alpha", type=Number(0, min_open=True), default=16)
@click.option("--dropout", type=Number(0, 1, max_open=True), default=0.05)
@click.option(
    "--target-modules", default="default", help='"default" for the architecture, "all-linear", or names, a,b.'
)
@click.option("--steps", type=click.IntRange(1), default=100)
@click.option("--batch-size", type=click.IntRange(1), default=4)
@click.option("--learning-rate", type=Number(0, min_open=True), default=2e-4)
@click.option("--sequence-length", type=click.IntRange(8), default=1024, help="Tokens a row; longer rows are cut.")
@click.option("--eval-steps", type=click.IntRange(1), default=20, help="Steps between held-out losses.")
@click.option("--gradient-checkpointing/--no-gradient-checkpointing", default=True, help="Less memory, more time.")
@click.option("--seed", type=int, default=0)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="bfloat16")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--processes", type=click.IntRange(1), default=1, help="Processes that share a batch; one a GPU.")
@click.option("--parallel", type=click.Choice(PARALLEL), default="none", help="How they do: see docs/azure.md.")
@click.option("--trust-remote-code/--no-trust-remote-code", default=False)
@click.option("--out", type=Out, required=True, help="Folder for the PEFT adapter.")
@click.option("--quality", type=Out, required=True, help="JSON: losses and size.")
@click.option("--training-loss", type=Out, required=True, help="CSV: step, loss.")
@click.option("--held-out-loss", type=Out, required=True, help="CSV: step, loss.")
def main(
    model: Path,
    data: Path,
    trust_remote_code: bool,
    out: Path,
    quality: Path,
    training_loss: Path,
    held_out_loss: Path,
    **settings: str | int | float | bool,
) -> None:
    """Write a plain PEFT adapter to OUT, with its loss curves."""
    train, held_out = (read_texts(data / f"{side}.jsonl") for side in ("train", "held_out"))
    with whole(out) as scratch:
        log = finetune(model, train, held_out, scratch, LoraSettings(**settings), trust_remote_code=trust_remote_code)
        weights = (scratch / "adapter_model.safetensors").stat().st_size
    curves = {
        key: [(entry["step"], round(entry[key], 4)) for entry in log if key in entry] for key in ("loss", "eval_loss")
    }
    write_csv(training_loss, ("step", "loss"), curves["loss"])
    write_csv(held_out_loss, ("step", "loss"), curves["eval_loss"])
    write_json(
        quality,
        {
            "held_out_loss": {"before": curves["eval_loss"][0][1], "after": curves["eval_loss"][-1][1]},
            "last_training_loss": curves["loss"][-1][1],
            "adapter_bytes": weights,
        },
    )


if __name__ == "__main__":
    main()
