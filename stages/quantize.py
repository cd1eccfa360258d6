"""Quantize the base once: AWQ by AutoAWQ, or Olive's rtn, gptq or kquant."""

import os
from pathlib import Path

import click

from olivepress.core import checkpoint
from olivepress.core.errors import PressError
from olivepress.core.lacks import need_memory
from olivepress.core.machine import take_threads
from olivepress.core.outputs import atomic_output, sha256, write_json
from olivepress.core.pretrained import load_config
from olivepress.core.stage import InFile, InFolder, Number, Out, stage
from olivepress.core.tokenizer import load_tokenizer
from olivepress.quantize.awq import quantize_awq
from olivepress.quantize.calibration import calibration_blocks
from olivepress.quantize.mixed_precision import choose_formats
from olivepress.quantize.olive import PASSES, quantize_olive


@stage
@click.option("--base", type=InFolder, required=True, help="Checkpoint folder.")
@click.option("--algorithm", type=click.Choice(["awq", *PASSES]), default="awq")
@click.option("--bits", type=click.Choice(["4", "8"]), default="4", help="Bits a weight; awq has 4 only.")
@click.option(
    "--group-size", type=click.Choice(["16", "32", "64", "128"]), default="128", help="Weights that share a scale."
)
@click.option("--zero-point/--no-zero-point", default=True, help="Asymmetric grid, or symmetric around zero.")
@click.option("--exact/--no-exact", default=True, help="AutoAWQ's own bytes, or sooner, for a CPU; awq only.")
@click.option(
    "--average-bits",
    type=Number(0, 16),
    default=0,
    help="Mixed precision: bits a weight, scales counted, spent where layers lose most.  [default: all alike]",
)
@click.option(
    "--distill-steps",
    type=click.IntRange(0),
    default=0,
    help="Steps that train scales and norms to predict what the float model predicts; not with --exact.",
)
@click.option(
    "--calibration-data", type=InFile, required=True, help='JSON lines, {"text": …}; for awq, gptq, distillation.'
)
@click.option("--samples", type=click.IntRange(1), default=128, help="Calibration sequences.")
@click.option("--sequence-length", type=click.IntRange(16), default=512, help="Tokens in each.")
@click.option("--seed", type=int, default=0, help="Order in which calibration rows are taken.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--threads", type=click.IntRange(0, 1024), default=0, help="PyTorch's on the CPU; 0: as many as cores.")
@click.option("--trust-remote-code/--no-trust-remote-code", default=False)
@click.option("--out", type=Out, required=True, help="Folder for the quantized checkpoint.")
@click.option("--inputs", type=Out, help="JSON: the calibration data and its SHA-256.")
@click.option("--quality", type=Out, required=True, help="JSON: sizes and bits per weight.")
def main(
    base: Path,
    algorithm: str,
    bits: str,
    group_size: str,
    zero_point: bool,
    exact: bool,
    average_bits: float,
    distill_steps: int,
    calibration_data: Path,
    samples: int,
    sequence_length: int,
    seed: int,
    device: str,
    threads: int,
    trust_remote_code: bool,
    out: Path,
    inputs: Path | None,
    quality: Path,
) -> None:
    """Write an ordinary Hugging Face checkpoint with int4 (or int8) weights to OUT."""
    before = checkpoint.check(base)
    if algorithm == "awq" and bits != "4":
        raise PressError(f"quantize.bits: awq packs 4 bits, not {bits}. Use rtn, gptq or kquant for 8.")
    if average_bits and (bits != "4" or (algorithm == "awq" and exact)):
        raise PressError(
            "quantize.average_bits: gives 8 bits to some layers, 4 to the others: set bits 4, and no exact."
        )
    if distill_steps and algorithm == "awq" and exact:
        raise PressError("quantize.distill_steps: trains what AutoAWQ wrote, so its bytes are no more: set no exact.")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # AutoAWQ and Olive take any GPU they see
    need_memory(sum(info.nbytes for info in before.values()), f"{base}, whose weights are quantized in memory,")
    take_threads(threads)
    load_config(base, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
    blocks = calibration_blocks(
        calibration_data, tokenizer, samples=samples, sequence_length=sequence_length, seed=seed
    )
    common = {
        "blocks": blocks,
        "group_size": int(group_size),
        "zero_point": zero_point,
        "trust_remote_code": trust_remote_code,
    }
    if average_bits:
        common["formats"] = choose_formats(base, average_bits=average_bits, device=device, **common)
    with atomic_output(out) as scratch:
        if algorithm == "awq":
            quantize_awq(base, scratch, device=device, exact=exact, **common)
        else:
            quantize_olive(base, scratch, algorithm=algorithm, bits=int(bits), **common)
        if distill_steps:
            from olivepress.quantize.distillation import distill  # loads torch

            trained = distill(
                base,
                scratch,
                blocks=blocks,
                steps=distill_steps,
                seed=seed,
                device=device,
                trust_remote_code=trust_remote_code,
            )
        checkpoint.carry_licence(base, scratch)
        checkpoint.forget_offline(scratch)
    after = checkpoint.tensors(out)
    quantized = {name.removesuffix(".qweight") for name in after if name.endswith(".qweight")}
    packed = sum(info.nbytes for name, info in after.items() if name.rpartition(".")[0] in quantized)
    weights = sum(before[f"{name}.weight"].count for name in quantized)
    sizes = {"base": sum(i.nbytes for i in before.values()), "quantized": sum(i.nbytes for i in after.values())}
    if inputs:
        write_json(inputs, {"data": calibration_data.as_posix(), "sha256": sha256(calibration_data)})
    write_json(
        quality,
        {
            "weight_bytes": sizes,
            "size_ratio": round(sizes["quantized"] / sizes["base"], 4),
            "quantized_layers": len(quantized),
            "bits_per_quantized_weight": round(8 * packed / weights, 3),
            "bits_per_weight": round(8 * sizes["quantized"] / sum(info.count for info in before.values()), 3),
            **({"distillation_kl_divergence": trained} if distill_steps else {}),
        },
    )


if __name__ == "__main__":
    main()
