"""The record as pages of the documentation."""

import re
from typing import Any

from benchmarks.beside.install import LLAMA, OPENVINO_LOCK
from benchmarks.beside.steps import AWQ_QUICK, AWQ_WHOLE, HELD_OUT, OPENVINO_GROUP
from benchmarks.beside.table import ROWS, markdown, pair_lines, plain, verdicts

HEADING = "## Beside the others"


def others() -> dict[str, str]:
    """Versions of what lies outside .venv."""
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", OPENVINO_LOCK.read_text(encoding="utf-8"), re.M))
    names = ("openvino-genai", "optimum-intel", "nncf")
    return {"llama.cpp": LLAMA, **{name: pins[name] for name in names}}


def page(values: dict[str, Any], day: str) -> str:
    """A page of the log: the table, who wins, and on what it was measured."""
    settings, rows = values["settings"], values["rows"]
    versions = ", ".join(f"{name} {version}" for name, version in values["versions"].items())
    losses = "\n".join(
        f"| {plain(who)} | {ROWS[who][1]} | {row['loss']:.3f} |" for who, row in rows.items() if "loss" in row
    )
    by_weights = rows["autoawq"].get("by_weights")
    weights = f" AutoAWQ's checkpoint by its weights in PyTorch: {by_weights['increase']:+.3f}." if by_weights else ""
    return f"""# {day}: beside the others, on SmolLM2-135M

Written by `python -m benchmarks.beside publish`; every figure stands in `results/bench/beside.json`. Again, from
nothing but the profile's GGUF file: `make bench` ({values["minutes"]:.0f} minutes here, without downloads).

{markdown(rows)}

{chr(10).join(verdicts(rows, values["pairs"]))}

## What was measured

{values["machine"]["processor"]}, {settings["threads"]} threads; load average before each round of decoding
{values["load_average"]}. {versions}.

- **Weights**: SmolLM2-135M's, moved off the grid that its Q4_1 file has them on ([how](2026-11-27-bytes.md)), float16
  on disk: {rows["float"].get("megabytes", 0):.0f} MB. Everybody starts from these.
- **Seconds** are of whole processes, started one after the other, imports and checks included (ours compares
  its export with PyTorch); LoRA's are of a step, the first left out: {settings["steps"]} steps of 8 rows of
  `data/travel.jsonl`, rank 16, all linear layers, float32, one schedule. Ours trains on the quantized weights, PEFT by
  transformers' Trainer on the float ones, as Olive's own LoRA pass does, whose labels take in the questions, too (its
  command packs rows to 1,024 tokens; here it gets them one by one). **Loss after** them is that of the answers of
  every {HELD_OUT}th row, which nobody trained on, each on its own base{lora_losses(values["measured"])}.
- **Memory** is the peak of what is resident, mapped files included: of quantizing and exporting, and of the process
  that decodes.
- **AutoAWQ as it comes** computes in float16: {AWQ_WHOLE["layers"]} of 30 layers was measured, on the profile's text
  ({AWQ_WHOLE["samples"]} x 256 tokens), and ~ is worked out from that. Its other row is what gets through on a CPU:
  AutoAWQ in float32, on {AWQ_QUICK["samples"]} x 256 tokens, without its search for where to clip weights
  (`apply_clip`), settings chosen here for time; Olive's ModelBuilder exports that. Both are given copies where AutoAWQ
  0.2.9 takes `tensor.cpu()` for one: else every scale it tries on a CPU stays in the weights (10.5 nats a token).
- **Bytes** are of what goes to a user: a folder with tokenizer and configuration, or a GGUF file.
- **Loss**: {settings["rows"]} rows of `data/general.jsonl`, {values["answer_tokens"]:,} tokens of answers, nats a
  token; the increase is paired with the float model by row, 95 % interval by bootstrap. Each as it ships, by its own
  runtime, with what that rounds activations to.{weights}
- **Decoding**: greedy, batch 1, {settings["prompt"]} tokens of prompt, {settings["tokens"]} decoded,
  {settings["rounds"]} rounds in turns in a changing order, medians; no adapter. Ours by the graph with native operators
  where `olivepress.load` chooses it; GenAI alone loads the portable one of the same folder. Threads are set for raw
  Olive and AutoAWQ's export (GenAI alone takes half of the processors). OpenVINO's figures are its pipeline's own,
  its cache of prefixes off.
- OpenVINO: int4 in groups of {OPENVINO_GROUP} (its default of 128 does not divide 576 columns), int8 embedding and
  head, by `optimum-cli export openvino`; llama.cpp: no importance matrix.

| | loss by | loss, nats a token |
|---|---|---:|
{losses}

Paired by row, below zero where ours is better; where the interval has zero in it, these rows show no difference:

{pair_lines(values["pairs"])}
"""


def lora_losses(measured: dict[str, Any]) -> str:
    """What these losses were before, in words; nothing where they were not taken."""
    before = {who: measured.get(f"{who} LoRA", {}).get("held_out", [None])[0] for who in ("float", "ours")}
    if None in before.values():
        return ""
    return f" (before: {before['float']:.3f} of the float one, {before['ours']:.3f} of ours)"


def section(values: dict[str, Any], log: str) -> str:
    """The summary's section."""
    settings = values["settings"]
    return f"""{HEADING}

SmolLM2-135M, the same float weights for all, {settings["threads"]} threads of {values["machine"]["processor"]}, in one
run of `make bench`; bold is the best of a column:

{markdown(values["rows"])}

{settings["rows"]} rows for the loss; ~ is worked out from {AWQ_WHOLE["layers"]} of 30 layers. [Conditions, and who wins
by how much](log/{log}).
"""


def with_row(index: str, log: str) -> str:
    """The log's index with a row for the page ``log``, if it has none."""
    row = f"| {log[:10]} | [SmolLM2 beside raw Olive, AutoAWQ, PEFT, llama.cpp and OpenVINO]({log}), one table |"
    return index if f"]({log})" in index else f"{index.rstrip()}\n{row}\n"


def with_section(text: str, section: str) -> str:
    """``text`` with its section of that heading replaced, or with a new one before the last but one."""
    pattern = re.compile(rf"^{re.escape(HEADING)}\n.*?(?=^## |\Z)", re.M | re.S)
    if pattern.search(text):
        return pattern.sub(lambda _: section + "\n", text, count=1)
    before, heading, after = text.partition("## Large files\n")
    return f"{before}{section}\n{heading}{after}" if heading else f"{text.rstrip()}\n\n{section}"
