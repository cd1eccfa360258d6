"""The measurements as one record, one table, and what it says in words: pure functions of the figures."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# contender -> (its name, what its loss was computed by)
ROWS = {
    "ours": ("**Olive Press**, profile smollm2", "ONNX Runtime"),
    "portable": ("**Olive Press**, its portable graph", ""),
    "mixed": ("**Olive Press**, mixed precision", "ONNX Runtime"),
    "olive": ("raw Olive (ModelBuilder, int4)", "ONNX Runtime"),
    "autoawq": ("AutoAWQ in float32 without clipping, then ModelBuilder", "ONNX Runtime"),
    "autoawq whole": ("AutoAWQ as it comes", ""),
    "Q4_0": ("llama.cpp Q4_0", "llama.cpp"),
    "Q4_K_M": ("llama.cpp Q4_K_M", "llama.cpp"),
    "openvino": ("OpenVINO GenAI, int4", "OpenVINO"),
    "float": ("PyTorch + PEFT, float32", "PyTorch"),
}
OURS = ("ours", "portable", "mixed")
MAKING = ("quantize", "export", "LoRA")
BROKEN = 3  # nats a token over the float model's: what answers so does not know the language, and is not compared
NEEDS = "needs "  # begins the error of a step that has not what an earlier one should have made


@dataclass(frozen=True)
class Column:
    """``key`` of a row's figures; ``best``: min or max."""

    title: str
    key: str
    show: Callable[[float], str]
    best: Callable[..., float] = min


COLUMNS = (
    Column("quantize, s", "quantize_s", "{:.0f}".format),
    Column("export, s", "export_s", "{:.0f}".format),
    Column("both, s", "made_s", "{:.0f}".format),
    Column("LoRA, s a step", "lora_s", "{:.2f}".format),
    Column("LoRA, loss after", "lora_loss", "{:.3f}".format),
    Column("ships, MB", "megabytes", "{:.1f}".format),
    Column("answer loss over float's", "increase", "{:+.3f}".format),
    Column("decode, tok/s", "tokens_per_s", "{:.0f}".format, max),
    Column("prefill, ms", "prefill_ms", "{:.0f}".format),
    Column("memory, making, MiB", "making_mib", "{:,.0f}".format),
    Column("memory, decoding, MiB", "decoding_mib", "{:,.0f}".format),
)
NEVER = {  # figures that a contender has not, and why
    **{(who, key): "cannot" for who in ("autoawq", "Q4_0", "Q4_K_M", "openvino") for key in ("lora_s", "lora_loss")},
    **{(who, "quantize_s"): "with export" for who in ("olive", "openvino")},
    **{(who, "export_s"): "with quantize" for who in ("Q4_0", "Q4_K_M")},
    **{("mixed", key): "as above" for key in ("lora_s", "lora_loss")},
}


def figures(found: dict[str, dict[str, Any]], who: str, float_bytes: int) -> dict[str, Any]:
    """A row: figures by column; ``estimated``: which are worked out; ``failed``: what went wrong, in words."""
    parts = {kind: found[f"{who} {kind}"] for kind in (*MAKING, "loss") if f"{who} {kind}" in found}
    good = {kind: part for kind, part in parts.items() if "error" not in part}
    errors: dict[str, list[str]] = {}
    for kind, part in parts.items():
        if not part.get("error", NEEDS).startswith(NEEDS):
            errors.setdefault(part["error"], []).append(kind)
    failed = [f"{', '.join(kinds)}: {error}" for error, kinds in errors.items()]
    row: dict[str, Any] = {"estimated": [], "failed": failed, **_making(parts, good)}
    if "LoRA" in good:
        row |= {"lora_s": good["LoRA"]["seconds_per_step"], "lora_loss": good["LoRA"]["held_out"][1]}
    size = float_bytes if who == "float" else next((part["bytes"] for part in good.values() if "bytes" in part), None)
    if size:
        row["megabytes"] = round(size / 1e6, 1)
    if "loss" in good and "error" not in found["float loss"]:
        row |= losses(good["loss"], found["float loss"])
        if who == "float":
            row.pop("increase")
    if row.get("increase", 0) > BROKEN:
        failed.append(
            f"loss, decoding: its answers have {row.pop('loss'):.1f} nats a token, nearly those of chance. It, or how "
            "it is run here, is at fault; which was not found out, and it is not compared."
        )
        del row["increase"], row["interval"]
        return row
    case = found["speed"].get("cases", {}).get(who, {})
    if case.get("tokens_per_s"):
        row |= {key: statistics.median(case[key]) for key in ("tokens_per_s", "prefill_ms")}
        row["decoding_mib"] = case["peak_mib"]
    elif "error" in case:
        failed.append(f"decoding: {case['error']}")
    return row


def _making(parts: dict[str, dict[str, Any]], good: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Seconds and memory of quantizing and exporting, ``good`` being those of ``parts`` that were measured."""
    kinds = [kind for kind in ("quantize", "export") if kind in parts]
    row: dict[str, Any] = {f"{kind}_s": good[kind]["seconds"] for kind in kinds if kind in good}
    part = good.get("quantize", {})
    if "layers" in part:
        rest = part["quantize_seconds"] / part["layers"] * (part["all_layers"] - part["layers"])
        row |= {"quantize_s": round(part["seconds"] + rest, 1), "estimated": ["quantize_s"]}
    elif kinds and all(kind in good for kind in kinds):
        row["made_s"] = round(sum(row.values()), 1)
    peaks = [good[kind]["peak_mib"] for kind in kinds if kind in good]
    return {**row, "making_mib": max(peaks)} if peaks else row


def losses(of: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """Nats a token of the answers, and their increase over the reference's with its 95 % interval, paired by row."""
    from olivepress.evaluate.intervals import estimate, mean

    increase = estimate(mean, of["nll"], of["tokens"], reference["nll"])
    return {
        "loss": round(sum(of["nll"]) / sum(of["tokens"]), 4),
        "increase": round(increase.value, 4),
        "interval": [round(increase.low, 4), round(increase.high, 4)],
    }


def record(found: dict[str, dict[str, Any]], float_bytes: int) -> dict[str, Any]:
    """All rows by contender, and what they were measured on."""
    rows = {who: figures(found, who, float_bytes) for who in ROWS}
    weights = found.get("autoawq weights loss", {})
    if "nll" in weights and "nll" in found["float loss"] and "loss" in rows["autoawq"]:
        rows["autoawq"]["by_weights"] = losses(weights, found["float loss"])
    tokens = sum(found["float loss"].get("tokens", []))
    load = found["speed"].get("load_average", [])
    return {
        "rows": rows,
        "pairs": pairs(found, [who for who, row in rows.items() if "loss" in row]),
        "answer_tokens": tokens,
        "load_average": load,
        "measured": found,
    }


def pairs(found: dict[str, dict[str, Any]], compared: list[str]) -> list[dict[str, Any]]:
    """Each of ours beside each other one ``compared``: the difference of their losses, its interval, paired by row."""
    scored = {who: found[f"{who} loss"] for who in compared if who != "float"}
    return [
        {"ours": mine, "other": other, **losses(scored[mine], scored[other])}
        for mine in scored
        for other in scored
        if mine in OURS and other not in OURS
    ]


def pair_lines(found: list[dict[str, Any]]) -> str:
    """A line for each pair, as Markdown."""
    lines = ["| | beside | difference of the loss |", "|---|---|---:|"]
    for pair in found:
        low, high = pair["interval"]
        text = f"{pair['increase']:+.3f} [{low:.3f}, {high:.3f}]"
        lines.append(f"| {plain(pair['ours'])} | {plain(pair['other'])} | {text} |")
    return "\n".join(lines)


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """The table. The best of a column is bold; what is worked out has a ~; what went wrong stands behind the table."""
    best = {}
    for column in COLUMNS:
        values = [row[column.key] for row in rows.values() if column.key in row and column.key not in row["estimated"]]
        if len(values) > 1:
            best[column.key] = column.best(values)
    lines = ["| | " + " | ".join(column.title for column in COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for who, row in rows.items():
        cells = [_cell(who, row, column, best.get(column.key)) for column in COLUMNS]
        lines.append(f"| {ROWS[who][0]} | " + " | ".join(cells) + " |")
    failed = [f"- {ROWS[who][0]}: {what}" for who, row in rows.items() for what in row["failed"]]
    return "\n".join([*lines, *(["", "Not measured:", "", *failed] if failed else [])])


def _cell(who: str, row: dict[str, Any], column: Column, best: float | None) -> str:
    value = row.get(column.key)
    if value is None:
        return NEVER.get((who, column.key), "")
    text = column.show(value)
    if column.key in row["estimated"]:
        return f"~{text}"
    if column.key == "increase":
        low, high = row["interval"]
        return f"{f'**{text}**' if value == best else text} [{low:.3f}, {high:.3f}]"
    return f"**{text}**" if value == best else text


def verdicts(rows: dict[str, dict[str, Any]], pairs: list[dict[str, Any]]) -> list[str]:
    """One line a column: the best of ours beside the best of the others; losses are told apart by their ``pairs``."""
    lines = []
    for column in COLUMNS:
        sides = [
            {who: row[column.key] for who, row in rows.items() if column.key in row and (who in OURS) is ours
             and column.key not in row["estimated"]}
            for ours in (True, False)
        ]  # fmt: skip
        if not all(sides):
            continue
        (mine, my_value), (other, their_value) = (
            min(side.items(), key=lambda one: one[1] if column.best is min else -one[1]) for side in sides
        )
        said = "is ahead" if column.best(my_value, their_value) == my_value else "**loses**"
        if column.key == "increase":
            low, high = next(one["interval"] for one in pairs if (one["ours"], one["other"]) == (mine, other))
            said = "is level, as far as these rows show" if low <= 0 <= high else said
        pair = f"{column.show(my_value)} ({plain(mine)}) beside {column.show(their_value)} ({plain(other)})"
        lines.append(f"- {column.title}: ours {said}, {pair}")
    return lines


def plain(who: str) -> str:
    """A contender's name without emphasis."""
    return ROWS[who][0].replace("**", "")
