"""Olive Press beside raw Olive, AutoAWQ, PyTorch + PEFT, llama.cpp and OpenVINO GenAI, on SmolLM2: one table.

`make bench` makes everything of the profile's GGUF file and measures it, in at most half an hour. Each measurement is a
process of its own and is kept in --work: a second run does what is missing, has failed, or has other settings.
`publish` writes the documentation's pages of it.
"""

import json
import os
import time
from datetime import date
from pathlib import Path
from typing import Any

import click
from joblib import cpu_count

from benchmarks.beside import pages
from benchmarks.beside.steps import ROOT, Settings, Work
from benchmarks.beside.table import markdown, record, verdicts
from benchmarks.beside.turns import Budget, run_all, run_step, settings_of
from benchmarks.full_size import weight_bytes
from benchmarks.machine import installed_versions
from olivepress.core.machine import processor
from olivepress.core.outputs import write_json

PACKAGES = ("torch", "transformers", "peft", "autoawq", "olive-ai", "onnxruntime", "onnxruntime-genai")
Folder = click.Path(path_type=Path, file_okay=False)
File = click.Path(path_type=Path, dir_okay=False)
work_option = click.option("--work", type=Folder, default=ROOT / "models/bench-beside", help="Scratch folder, 4 GB.")
results_option = click.option("--results", type=File, default=ROOT / "results/bench/beside.json", show_default=True)


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Compare what others make of the same float weights."""


@main.command()
@work_option
@results_option
@click.option("--minutes", default=30.0, help="No measurement is begun that would end later.")
@click.option("--threads", type=click.IntRange(1), default=min(2, cpu_count()))
@click.option("--rows", type=click.IntRange(1), default=Settings.rows, help="Of data/general.jsonl, for the loss.")
@click.option("--steps", type=click.IntRange(2), default=Settings.steps, help="Of LoRA.")
@click.option("--prompt", type=click.IntRange(1), default=Settings.prompt, help="Tokens of a prompt.")
@click.option("--tokens", type=click.IntRange(16), default=Settings.tokens, help="Tokens to decode.")
@click.option("--rounds", type=click.IntRange(1), default=Settings.rounds, help="Of decoding, in turns.")
def run(work: Path, results: Path, minutes: float, **settings: int) -> None:
    """Measure what is not measured yet; print the table and write RESULTS."""
    work.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    if hasattr(os, "sched_setaffinity"):  # of all that this starts: ours takes every core that it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings["threads"]])
    place = Work(work, Settings(**settings))
    found = run_all(place, Budget(start + 60 * minutes))
    values: dict[str, Any] = {
        "machine": {"processor": processor(), "cpus": os.cpu_count()},
        "versions": installed_versions(*PACKAGES) | pages.others(),
        "settings": settings,
        "minutes": round(sum(one.get("seconds", 0) for one in found.values()) / 60, 1),
        **record(found, weight_bytes(place.float) if place.float.exists() else 0),
    }
    write_json(results, values)
    click.echo(markdown(values["rows"]) + "\n\n" + "\n".join(verdicts(values["rows"], values["pairs"])))


@main.command()
@results_option
@click.option("--docs", type=Folder, default=ROOT / "docs", help="Of it log/, log/README.md and performance.md.")
@click.option(
    "--day", default=lambda: f"{date.today()}", show_default="today", help="YYYY-MM-DD, when it was measured."
)
def publish(results: Path, docs: Path, day: str) -> None:
    """Write RESULTS as a page of the log, and as the section of the summary."""
    values, log = json.loads(results.read_text(encoding="utf-8")), docs / f"log/{day}-beside.md"
    log.write_text(pages.page(values, day), encoding="utf-8")
    for path, change in (
        (docs / "performance.md", lambda text: pages.with_section(text, pages.section(values, log.name))),
        (docs / "log/README.md", lambda text: pages.with_row(text, log.name)),
    ):
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


@main.command(hidden=True)
@click.argument("name")
@work_option
@click.option("--settings", required=True)
@click.option("--out", type=File, required=True)
def step(name: str, work: Path, settings: str, out: Path) -> None:
    """One measurement, in the process that `run` starts for it."""
    run_step(name, Work(work, settings_of(settings)), out)


if __name__ == "__main__":
    main()
