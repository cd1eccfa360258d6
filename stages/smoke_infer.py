"""Prove that the exported model answers, with and without each adapter, through ONNX Runtime GenAI alone."""

from pathlib import Path
from statistics import median

import click

from olivepress.dataset import check_template, unescape
from olivepress.errors import PressError
from olivepress.generation import Answer, Chatbot, find_adapters
from olivepress.outputs import write_json
from olivepress.stage import InFolder, Out, stage


@stage
@click.option("--model", type=InFolder, required=True, help="Exported model folder.")
@click.option("--adapters", type=InFolder, required=True, help="Folder of .onnx_adapter files.")
@click.option("--adapter", "names", multiple=True, help="An adapter to try; repeat for more.")
@click.option("--prompt", "prompts", multiple=True, required=True, help="A question to ask; repeat for more.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=64)
@click.option("--template", default="chat", help='"chat", or the text template of the prepare stage.')
@click.option("--quality", type=Out, required=True, help="JSON: answers and token ids.")
def main(
    model: Path,
    adapters: Path,
    names: tuple[str, ...],
    prompts: tuple[str, ...],
    max_new_tokens: int,
    template: str,
    quality: Path,
) -> dict[str, float]:
    """Ask every PROMPT with no adapter and with each; fail if an answer is empty or an adapter changes nothing."""
    template = unescape(template)
    check_template(template)
    chatbot = Chatbot(model, find_adapters(adapters, names), template=template)
    answers: dict[str, dict[str, Answer]] = {}
    for name in (None, *names):
        for prompt in prompts:
            click.echo(f"\n[{name or 'no adapter'}] {prompt}\n  ", nl=False)
            answer = chatbot.answer(
                prompt, name, max_new_tokens=max_new_tokens, on_text=lambda text: click.echo(text, nl=False)
            )
            check(answer, prompt, name)
            answers.setdefault(name or "none", {})[prompt] = answer
    click.echo()
    tokens = {name: [answer.tokens for answer in given.values()] for name, given in answers.items()}
    for name in names:
        if tokens[name] == tokens["none"]:
            raise PressError(
                f"adapter {name!r} changes no answer to any of the {len(prompts)} prompts: it is not active, or was "
                "not trained long enough (finetune.steps, finetune.learning_rate)."
            )
    write_json(
        quality,
        {
            name: {prompt: {"text": answer.text, "tokens": answer.tokens} for prompt, answer in given.items()}
            for name, given in answers.items()
        },
    )
    every = [answer.seconds_per_token for given in answers.values() for answer in given.values()]
    later = [seconds for answer in every for seconds in answer[1:]]
    return {
        "load_seconds": round(chatbot.load_seconds, 3),
        "median_seconds_to_first_token": round(median(answer[0] for answer in every), 4),
        "median_tokens_per_second": round(1 / median(later), 1) if later else 0.0,
    }


def check(answer: Answer, prompt: str, adapter: str | None) -> None:
    """PressError if the model computed no finite numbers or said nothing."""
    who = f"adapter {adapter!r}" if adapter else "no adapter"
    if not answer.finite:
        raise PressError(f"{who}: {prompt!r}: the logits are not finite (NaN or infinite): the export is broken.")
    if not answer.text.strip():
        raise PressError(f"{who}: {prompt!r}: the answer is empty ({len(answer.tokens)} tokens: {answer.tokens[:8]}).")


if __name__ == "__main__":
    main()
