"""An interactive chat with an exported model or a release: olivepress chat --adapter travel"""

from collections.abc import Iterator
from pathlib import Path

import click

from olivepress.core.errors import PressError
from olivepress.core.report import note
from olivepress.runtime.conversation import Conversation
from olivepress.runtime.genai import Model
from olivepress.runtime.graphs import CHOICES
from olivepress.runtime.integrity import MANIFEST, VERIFY, differences, read_manifest
from olivepress.runtime.release import load, load_run

ONNX = Path("models/onnx")
HELP = """\
/adapter NAME   answer with this adapter; without a name, with none
/system TEXT    a system prompt from here on; without a text, none
/reset          forget what was said
/help           this; Ctrl-C breaks an answer off, Ctrl-D ends the chat"""


@click.command()
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A release's folder.")
@click.option("--target", help="The target, where there are several.")
@click.option(
    "--verify",
    type=click.Choice(VERIFY),
    default="cached",
    show_default=True,
    help="How FOLDER is held to its manifest: each file hashed once, every time, small ones only, or not at all.",
)
@click.option("--adapter", help="The adapter to answer with; none without it.")
@click.option("--system", help="A system prompt.")
@click.option("--graph", type=click.Choice(CHOICES), help="portable, operators, or by what this machine is.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True, help="The longest answer.")
@click.option("--temperature", type=click.FloatRange(0), default=0, show_default=True, help="0: the likeliest answer.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Of what is drawn at a temperature above 0.")
def main(
    folder: Path | None,
    target: str | None,
    verify: str,
    adapter: str | None,
    system: str | None,
    graph: str | None,
    max_new_tokens: int,
    temperature: float,
    seed: int | None,
) -> None:
    """Talk to the model of the last run here, or of the release in FOLDER; it remembers what was said. /help helps."""
    model = load(folder, target, graph=graph, verify=verify) if folder else load_here(target, graph)
    conversation = Conversation(model, system=system)
    choose(conversation, adapter)
    for line in lines():
        try:
            if line.startswith("/"):
                command(conversation, line)
                continue
            for piece in conversation.stream(line, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed):
                click.echo(piece, nl=False)
            click.echo()
        except KeyboardInterrupt:
            click.echo("\n(broken off, and forgotten)")
        except PressError as error:
            error.show()


def load_here(target: str | None, graph: str | None = None) -> Model:
    """The model that the last run in this folder exported, by its params; PressError if there is none.

    It need not be what was registered: a gate may have stopped it. Where it is not, that is said.
    """
    folder = exported_here(target)
    registered = read_manifest(folder / MANIFEST)["files"] if (folder / MANIFEST).is_file() else {}
    if registered and (problems := differences(folder, registered)):
        note(f"This is not the model that was registered: {problems[0]}")
    from olivepress.core.params import read_params  # a consumer, who has a release, needs none of it

    return load_run(folder, read_params(Path("params.yaml"))["text"]["template"], graph=graph)


def exported_here(target: str | None) -> Path:
    """The folder of model and adapters that the last run here exported for ``target``, or for the only one.

    PressError if there is none.
    """
    params = Path("params.yaml")
    targets = sorted(path.parent.name for path in ONNX.glob("*/model"))
    if not params.is_file() or not targets:
        raise PressError(f"{ONNX}: no model here. Run make repro in a checkout, or name a release: --folder.")
    if target is None and len(targets) > 1:
        raise PressError(f"{ONNX}: has several targets: {', '.join(targets)}. Choose one: --target {targets[0]}")
    if target is not None and target not in targets:
        raise PressError(f"{ONNX}: no target {target!r} (there: {', '.join(targets)}).")
    return ONNX / (target or targets[0])


def lines() -> Iterator[str]:
    """What is typed, until Ctrl-D or Ctrl-C at the prompt."""
    while True:
        try:
            line = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return
        if line:
            yield line


def command(conversation: Conversation, line: str) -> None:
    """What begins with a slash: a change of the conversation, said back."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name == "/adapter":
        choose(conversation, rest or None)
        click.echo(f"adapter: {conversation.adapter or 'none'} (there: {', '.join(conversation.model.adapters)})")
    elif name == "/system":
        conversation.system = rest or None
        click.echo(f"system prompt: {conversation.system or 'none'}")
    elif name == "/reset":
        conversation.reset()
        click.echo("forgotten")
    else:
        click.echo(HELP)


def choose(conversation: Conversation, adapter: str | None) -> None:
    """Answer with ``adapter`` from here on; PressError if the model has none of that name."""
    conversation.adapter = conversation.model.known(adapter)
