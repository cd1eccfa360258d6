"""olivepress openvino: the last run's quantized base and adapters on OpenVINO (docs/openvino.md)."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from olivepress.core.errors import PressError
from olivepress.core.offline import hub_offline
from olivepress.core.outputs import atomic_output, read_json, sha256, sizes, write_json
from olivepress.openvino.packages import EXPORT, RUN, use_packages

if TYPE_CHECKING:
    from olivepress.core.params import Params

CHECKPOINT, ADAPTERS, REFERENCE = Path("models/quantized"), Path("models/adapters"), Path("models/reference")
OUT = Path("models/openvino")
FACTS, QUALITY, COST, ANSWERS = "export.json", "evaluation.json", "cost.json", "answers.json"
HINTS = ("performance", "accuracy")  # of runtime.py, which imports more than --help needs

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=OUT,
    show_default=True,
    help="What export wrote.",
)
device_option = click.option("--device", default="CPU", show_default=True, help="CPU, GPU or NPU, by OpenVINO's name.")
hint_option = click.option(
    "--hint",
    type=click.Choice(HINTS),
    default=HINTS[0],
    show_default=True,
    help="performance: the device's fastest precision, OpenVINO's default. accuracy: float32 throughout.",
)


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, show_default=True)
def export_command(out: Path) -> None:
    """Write the quantized base of the last run here, its tokenizer and every shipped adapter for OpenVINO.

    The int4 weights are the checkpoint's own, bit by bit; embedding and head become int8.
    """
    use_packages(EXPORT)
    with hub_offline():
        from olivepress.core.template import unescape
        from olivepress.openvino.adapter import SUFFIX, convert
        from olivepress.openvino.export import export

        params = _params()
        if out.exists() and any(out.iterdir()) and not (out / FACTS).is_file():
            raise PressError(f"{out}: is there, and nothing that this command wrote. Choose another --out.")
        missing = [
            path for path in (CHECKPOINT, *(ADAPTERS / name for name in params.shipped.adapter)) if not path.is_dir()
        ]
        if missing:
            raise PressError(f"{missing[0]}: not there. Run make repro first.")
        with atomic_output(out) as scratch:
            facts = export(
                CHECKPOINT,
                scratch / "model",
                _texts(params.shipped.adapter),
                chat=unescape(params.text.template) == "chat",
                trust_remote_code=params.remote_code.trust_remote_code,
            )
            (scratch / "adapters").mkdir()
            layers = {
                name: convert(ADAPTERS / name, scratch / "model", scratch / "adapters" / f"{name}{SUFFIX}")
                for name in params.shipped.adapter
            }
            write_json(scratch / FACTS, {**facts, "adapters": layers, "inputs": _inputs(params.shipped.adapter)})
    said = ", ".join(f"{count} layers {bits}" for bits, count in facts["layers"].items())
    click.echo(
        f"{out}: {facts['bytes'] / 1e6:.2f} MB: {said}, all {facts['layers_equal_to_the_bit']} equal to the "
        f"checkpoint's bit by bit; {facts['texts_read_alike']} texts tokenized alike; adapters: {', '.join(layers)}."
    )


@click.command()
@click.argument("prompt")
@click.option("--adapter", help="A shipped adapter's name; none: the base alone.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True)
@folder_option
@device_option
@hint_option
def ask_command(prompt: str, adapter: str | None, max_new_tokens: int, folder: Path, device: str, hint: str) -> None:
    """Answer PROMPT by OpenVINO GenAI."""
    use_packages(RUN)
    from olivepress.openvino.runtime import OpenVinoModel

    model = OpenVinoModel(folder / "model", _adapters(folder), template=_template(), device=device, hint=hint)
    model.answer(prompt, adapter, max_new_tokens=max_new_tokens, on_text=lambda text: click.echo(text, nl=False))
    click.echo()


@click.command()
@folder_option
@device_option
@hint_option
def evaluate_command(folder: Path, device: str, hint: str) -> None:
    """Ask the smoke questions, measure every step on OpenVINO beside PyTorch, and hold it to the thresholds.

    Writes evaluation.json and answers.json (quality) and cost.json (this machine's) into FOLDER. Fails if a threshold
    is missed or an adapter is not active.
    """
    use_packages(RUN)
    from tabulate import tabulate

    from olivepress.core.gates import GENERAL, Thresholds, failed_thresholds, verdicts
    from olivepress.openvino import evaluate
    from olivepress.openvino.runtime import OpenVinoModel
    from olivepress.openvino.smoke import interview, time_decoding

    params, adapters, where = _params(), _adapters(folder), {"device": device, "hint": hint}
    if read_json(folder / FACTS)["inputs"] != _inputs(adapters):
        raise PressError(f"{folder}: made of other weights than lie in models now. Run olivepress openvino export.")
    model = OpenVinoModel(folder / "model", adapters, template=_template(), **where)
    prompts, most = params.smoke_infer.prompt, params.smoke_infer.max_new_tokens
    said = {name: interview(model, name, prompts, max_new_tokens=most) for name in adapters}
    times = {name: time_decoding(model, name, prompts[0]) for name in adapters}
    del model
    general, difference = evaluate.measure_base(folder / "model", REFERENCE / GENERAL, **where)
    sets, differences = {GENERAL: {GENERAL: general}}, {GENERAL: difference}
    for name, path in adapters.items():
        sets[name], differences[name] = evaluate.measure_adapter(
            folder / "model", path, REFERENCE / name, general, **where
        )
    size = sum(sum(sizes(folder / part).values()) for part in ("model", "adapters"))
    speed = {name: ratio for name, (_, ratio) in times.items()}
    found = verdicts(evaluate.measured(sets, size, speed), Thresholds(**params.thresholds.model_dump()))
    rows = evaluate.told(found)
    quality: dict[str, Any] = {
        **where,
        "bytes": size,
        "metrics": evaluate.shown(sets),
        "changed_answers": {name: one["changed"] for name, one in said.items()},
        "largest_difference_of_genai_and_graph": {name: round(value, 6) for name, value in differences.items()},
        "verdicts": [row for row in rows if row["threshold"] != "min_relative_speed"],
    }
    write_json(folder / QUALITY, quality)
    write_json(folder / ANSWERS, {name: one["answers"] for name, one in said.items()})
    write_json(folder / COST, {name: cost for name, (cost, _) in times.items()})
    shown = [
        ("ok" if row["ok"] else "missed", row["metric"], str(each.figure), each.bound)
        for row, each in zip(rows, found, strict=True)
    ]
    click.echo(tabulate(shown, ("", "metric", "value (95 %)", "threshold"), tablefmt="plain", disable_numparse=True))
    if missed := failed_thresholds(found):
        raise PressError(f"{folder} misses {len(missed)} of {len(found)} thresholds:\n  " + "\n  ".join(missed))


def _params() -> "Params":
    from olivepress.core.params import load_params

    return load_params(Path("params.yaml"))


def _template() -> str:
    from olivepress.core.template import unescape

    return unescape(_params().text.template)


def _adapters(folder: Path) -> dict[str, Path]:
    """Name -> file of the adapters that were exported with the model in ``folder``; PressError if there is none."""
    from olivepress.openvino.adapter import SUFFIX

    if not (folder / FACTS).is_file():
        raise PressError(f"{folder}: no model for OpenVINO. Run olivepress openvino export.")
    return {name: folder / "adapters" / f"{name}{SUFFIX}" for name in read_json(folder / FACTS)["adapters"]}


def _inputs(adapters: Iterable[str]) -> dict[str, str]:
    """File -> SHA-256 of every weight that is exported."""
    folders = (CHECKPOINT, *(ADAPTERS / name for name in adapters))
    return {path.as_posix(): sha256(path) for folder in folders for path in sorted(folder.glob("*.safetensors"))}


def _texts(adapters: list[str]) -> list[str]:
    """The texts of the held-out rows, which a model is trained and asked with: tokenized by both, they must agree."""
    return [
        text
        for name in adapters
        if (path := REFERENCE / name / "held_out" / "scores.json").is_file()
        for text in read_json(path)["texts"]
        if text
    ]
