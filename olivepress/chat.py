"""An interactive chat with an exported model: python -m olivepress.chat --adapter travel"""

from pathlib import Path

import click

from olivepress.errors import PressError
from olivepress.generation import SUFFIX, Chatbot


@click.command()
@click.option("--target", default="cpu-int4", show_default=True)
@click.option("--adapter", help="The adapter to answer with; none without it.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option("--template", default="chat", show_default=True, help='"chat", or the text template of prepare.')
def main(target: str, adapter: str | None, max_new_tokens: int, template: str) -> None:
    """Read questions from the terminal, stream the answers. Each question stands for itself. Ctrl-D ends."""
    release = Path("models/onnx") / target
    files = {path.name.removesuffix(SUFFIX): path for path in sorted((release / "adapters").glob(f"*{SUFFIX}"))}
    if adapter and adapter not in files:
        known = ", ".join(files) or "none: run make repro"
        raise PressError(f"{release / 'adapters'}: no adapter {adapter!r} (there: {known}).")
    chosen = {adapter: files[adapter]} if adapter else {}
    chatbot = Chatbot(release / "model", chosen, template=template)
    while True:
        try:
            prompt = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if prompt:
            chatbot.answer(
                prompt, adapter, max_new_tokens=max_new_tokens, on_text=lambda text: click.echo(text, nl=False)
            )
            click.echo()


if __name__ == "__main__":
    main()
