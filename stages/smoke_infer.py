"""Prove that the exported model answers, without and with one adapter, through ONNX Runtime GenAI alone."""

from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click

from olivepress.core import report
from olivepress.core.artifact import OPERATORS
from olivepress.core.errors import PressError
from olivepress.core.outputs import read_json, write_json
from olivepress.core.params import load_params
from olivepress.core.proof import EXPORTED_ONLY, never_run
from olivepress.core.stage import InFile, InFolder, Out, stage
from olivepress.core.template import check_template, unescape
from olivepress.runtime.agreement import Interview, agreement, interview
from olivepress.runtime.genai import Answer, Model
from olivepress.runtime.graphs import CONFIGURED, NATIVE, choose


@stage
@click.option("--model", type=InFolder, required=True, help="Exported model folder.")
@click.option("--adapter", required=True, help="The adapter's name.")
@click.option("--adapter-file", type=InFile, required=True, help="Its .onnx_adapter file.")
@click.option("--prompt", "prompts", multiple=True, help="A question to ask; repeat for more.")
@click.option("--facts", type=InFile, help="What auto_opt wrote of the target: one that no stage runs is not run here.")
@click.option("--params", type=InFile, help="params.yaml: also asks its smoke_infer.prompt, of any length.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=64)
@click.option("--template", default="chat", help='"chat", or the text template of the prepare stage.')
@click.option("--answers", "answers_file", type=Out, required=True, help="JSON: a list of answers, with token ids.")
@click.option("--quality", type=Out, required=True, help="JSON: how many answers the adapter changes; their tokens.")
def main(
    model: Path,
    adapter: str,
    adapter_file: Path,
    prompts: tuple[str, ...],
    facts: Path | None,
    params: Path | None,
    max_new_tokens: int,
    template: str,
    answers_file: Path,
    quality: Path,
) -> dict[str, float]:
    """Ask every PROMPT without and with ADAPTER; fail if an answer is empty or the adapter changes none.

    Of a model with two graphs the portable one answers, so that the answers are the same on every machine. Where the
    one with native operators can run, it is asked the same and held to the portable one; the cost is that of what is
    loaded here by default. A target that is exported only (FACTS) is not asked, and QUALITY says so.
    """
    if facts and never_run(read_json(facts)):
        report.note(f"{model}: exported, its structure checked, never run here: not asked.")
        write_json(answers_file, [])
        write_json(quality, {EXPORTED_ONLY: True})
        return {}
    template = unescape(template)
    check_template(template)
    prompts = (*prompts, *(load_params(params).smoke_infer.prompt if params else ()))
    if not prompts:
        raise PressError("no question: give --prompt, or --params with smoke_infer.prompt.")
    asked = [(who, prompt) for who in (None, adapter) for prompt in prompts]
    load = partial(Model, model, {adapter: adapter_file}, template=template)
    portable = interview(load(graph=CONFIGURED), asked, partial(ask, max_new_tokens=max_new_tokens))
    base, adapted = portable.answers
    changed = sum(before.tokens != after.tokens for before, after in zip(base, adapted, strict=True))
    if not changed:
        raise PressError(
            f"adapter {adapter!r} changes no answer to any of the {len(prompts)} prompts: it is not active, or was "
            "not trained long enough (finetune.steps, finetune.learning_rate)."
        )
    graph, costs = choose(model), cost(portable)
    if graph.file == OPERATORS:
        native = interview(load(graph=NATIVE), asked, partial(ask, max_new_tokens=max_new_tokens), portable)
        report.note(f"{model}: asked the graph with native operators, too: {agreement(portable, native)}")
        costs = {**cost(native), "portable": costs}
    elif (model / OPERATORS).is_file():
        report.note(f"{model}: the graph with native operators was not asked: {graph.why}")
    write_json(
        answers_file,
        [
            {"adapter": who, "prompt": prompt, "text": answer.text, "tokens": answer.tokens}
            for (who, prompt), answer in zip(asked, [*base, *adapted], strict=True)
        ],
    )
    tokens = {name: sum(len(a.tokens) for a in answers) for name, answers in (("base", base), ("adapter", adapted))}
    write_json(quality, {"prompts": len(prompts), "changed": changed, "tokens": tokens})
    return costs


def cost(found: Interview) -> dict[str, Any]:
    """Seconds to load and to the first token, tokens a second: what the machine adds."""
    base, adapted = found.answers
    every = [*base, *adapted]
    return {
        "load_seconds": round(found.load_seconds, 3),
        "median_seconds_to_first_token": round(median(answer.seconds_per_token[0] for answer in every), 4),
        "median_tokens_per_second": tokens_per_second(every),
        "tokens_per_second": {"no_adapter": tokens_per_second(base), "adapter": tokens_per_second(adapted)},
        "seconds_to_first_token": {
            who: round(median(answer.seconds_per_token[0] for answer in answers), 4)
            for who, answers in (("no_adapter", base), ("adapter", adapted))
        },
        **relative_speed(base, adapted),
    }


def tokens_per_second(answers: list[Answer]) -> float:
    """The median over all tokens but each answer's first, which waits for the prompt; 0 if there are no others."""
    later = [seconds for answer in answers for seconds in answer.seconds_per_token[1:]]
    return round(1 / median(later), 1) if later else 0.0


def relative_speed(base: list[Answer], adapted: list[Answer]) -> dict[str, float]:
    """Decoding speed with the adapter, 1 being that without: the prompts' median, the least, the greatest.

    Of the medians of each answer's tokens after its first. Nothing where no prompt has two tokens of both.
    """
    found = [
        median(before.seconds_per_token[1:]) / median(after.seconds_per_token[1:])
        for before, after in zip(base, adapted, strict=True)
        if len(before.tokens) > 1 and len(after.tokens) > 1
    ]
    if not found:
        return {}
    names = ("relative_speed", "relative_speed_low", "relative_speed_high")
    return {name: round(value, 3) for name, value in zip(names, (median(found), min(found), max(found)), strict=True)}


def ask(model: Model, prompt: str, adapter: str | None, max_new_tokens: int) -> Answer:
    """The answer, shown as it comes; PressError if the model computed no finite numbers or said nothing."""
    who = f"adapter {adapter!r}" if adapter else "no adapter"
    click.echo(f"\n[{who}] {prompt}\n  ", nl=False)
    answer = model.answer(
        prompt, adapter, max_new_tokens=max_new_tokens, on_text=lambda text: click.echo(text, nl=False)
    )
    click.echo()
    if not answer.finite:
        raise PressError(f"{who}: {prompt!r}: the logits are not finite (NaN or infinite): the export is broken.")
    if token := model.ran_on(answer):
        raise PressError(
            f"{who}: {prompt!r}: the answer goes on behind {token!r}, into another turn: {answer.text[:200]!r}. "
            "The model's generation_config.json names no token that ends it, or its adapter never learned to end: see "
            "eos_token_id in genai_config.json, and finetune.steps."
        )
    if not answer.text.strip():
        raise PressError(f"{who}: {prompt!r}: the answer is empty ({len(answer.tokens)} tokens: {answer.tokens[:8]}).")
    return answer


if __name__ == "__main__":
    main()
