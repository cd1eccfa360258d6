"""The one command line: ``olivepress SUBCOMMAND``. A subcommand's module is imported when it is called, not before."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click

from olivepress import __version__
from olivepress.core.errors import PressError
from olivepress.core.extras import extra
from olivepress.core.lacks import lack
from olivepress.core.strict_yaml import refuse_trap

# Most commands ask DVC, which reads this file by itself; these do not, and one of them writes it anew.
PARAMS = Path("params.yaml")
WITHOUT_PARAMS = ("chat", "new", "package", "params", "serve", "verify", "web")


class Entry(NamedTuple):
    """Where a subcommand is (module:attribute), its line of help, and the extra that brings what it imports."""

    place: str
    help: str
    extra: str = "pipeline"


# In the order that `olivepress --help` shows; a name of two words stands in the group of the first.
COMMANDS = {
    "repro": ("olivepress.tools.run:main", "Run the pipeline: what changed, and nothing else."),
    "chat": ("olivepress.tools.chat:main", "Talk to an exported model or a release.", "runtime"),
    "web": ("olivepress.tools.web:main", "The model as a page that a browser runs by itself, without a network."),
    "serve": ("olivepress.tools.serve:main", "An OpenAI-compatible server of an exported model or a release.", "serve"),
    "package": ("olivepress.tools.package:main", "A release as one zip: model, adapters, sample programs, licences."),
    "verify": ("olivepress.tools.verify:main", "Is a release's folder what its manifest says?", "runtime"),
    "doctor": ("olivepress.tools.doctor.command:main", "Is this machine fit for the chosen profile?"),
    "new": ("olivepress.tools.new:main", "Write a profile for a model and data of one's own."),
    "params": ("olivepress.tools.profile:main", "Compose conf/ into params.yaml."),
    "show": ("olivepress.tools.show:main", "The last run: verdict, answers, files, seconds, what is next."),
    "report": ("olivepress.tools.report:main", "The last run as one HTML page that needs no network."),
    "metrics": ("olivepress.tools.metrics:main", "Quality and cost of the last run, a table a stage."),
    "plots": ("olivepress.tools.plots:main", "Losses, sizes and speed as a page of DVC's plots."),
    "experiments": ("olivepress.tools.experiments:main", "DVC's experiments: what differs, and the gate's metrics."),
    "search": (
        "olivepress.tools.search.command:main",
        "Find the quantization that holds limits on loss, size and speed; write it as a profile.",
    ),
    "lm-eval": (
        "olivepress.tools.lm_eval:main",
        "Tasks of EleutherAI's evaluation harness on an exported model, with an adapter.",
        "harness",
    ),
    "reproduce": ("olivepress.tools.reproduce:main", "Rerun everything in a temporary clone and compare every output."),
    "prune": (
        "olivepress.tools.prune:main",
        "Remove what is left of adapters and targets that are no more.",
    ),
    "data head": ("olivepress.tools.data_head:main", "Show the first rows of a data set, every row of it checked."),
    "remote check": ("olivepress.remote.check:main", "Can the team's DVC remote be listed, written and read?"),
    "remote push": ("olivepress.remote.push:main", "dvc push, with what others need to take these results."),
    "remote pull": ("olivepress.remote.pull:main", "dvc pull; names what is damaged or missing on the remote."),
    "openvino export": ("olivepress.openvino.commands:export_command", "Write model and adapters for OpenVINO."),
    "openvino ask": ("olivepress.openvino.commands:ask_command", "Ask the exported model by OpenVINO GenAI."),
    "openvino evaluate": (
        "olivepress.openvino.commands:evaluate_command",
        "Measure the model on OpenVINO, and hold it to the thresholds.",
    ),
    "release make": ("olivepress.release.make:main", "Release this commit as a version.", "release"),
    "release verify": (
        "olivepress.release.verify:main",
        "Check a release's files, inputs, commands and signature.",
        "release",
    ),
    "release list": ("olivepress.release.versions:list_command", "Every version with its stages.", "release"),
    "release promote": (
        "olivepress.release.versions:promote_command",
        "Put a version into a stage: staging, production.",
        "release",
    ),
    "hub push": ("olivepress.release.hub:push_command", "Publish a release on the Hugging Face hub.", "release"),
    "hub pull": ("olivepress.release.hub:pull_command", "Bring a version from the Hugging Face hub.", "release"),
    "mlflow export": ("olivepress.tools.mlflow_export:main", "Copy the last run to an MLflow server.", "mlflow"),
    "cluster ray": (
        "olivepress.tools.cluster.command:ray",
        "Run the pipeline on a Ray cluster, or on workers of this machine.",
        "cluster",
    ),
    "cluster azure": (
        "olivepress.tools.cluster.command:azure",
        "Submit the pipeline to Azure ML, a job for each group of stages.",
        "azure",
    ),
    "cluster work": ("olivepress.tools.cluster.command:work", "One machine's part, which these call."),
    "azure whoami": ("olivepress.tools.azure_whoami:main", "Who is signed in to Azure, to which workspace.", "azure"),
    "azure submit": ("olivepress.tools.azure_job:main", "Run the pipeline as a job on Azure ML compute.", "azure"),
    "azure deploy": (
        "olivepress.tools.deploy.command:deploy",
        "Serve a registered release behind a managed online endpoint.",
        "azure",
    ),
    "azure traffic": (
        "olivepress.tools.deploy.command:traffic",
        "Share out an endpoint's requests among its deployments.",
        "azure",
    ),
    "azure undeploy": (
        "olivepress.tools.deploy.command:undeploy",
        "Delete an endpoint, or one of its deployments.",
        "azure",
    ),
}
GROUPS = {
    "data": "Data sets.",
    "remote": "The team's DVC remote.",
    "openvino": "The last run's model on OpenVINO: Intel's CPUs, GPUs, NPUs.",
    "release": "Versions of the model, and their stages.",
    "hub": "Releases on the Hugging Face hub.",
    "mlflow": "An MLflow server.",
    "cluster": "The pipeline on several machines.",
    "azure": "Azure ML.",
}


def words() -> set[str]:
    """Every first word that ``olivepress`` takes: groups, and subcommands without one."""
    return {name.partition(" ")[0] for name in COMMANDS}


class Lazy(click.Group):
    """A group that knows its subcommands by name and imports the one that is called.

    ``words``: the words before a subcommand's name, none for the top.
    """

    def __init__(self, *args: Any, words: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.words = words

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names here, in the table's order."""
        depth = len(self.words)
        names = (tuple(name.split()) for name in COMMANDS)
        return list(dict.fromkeys(name[depth] for name in names if name[:depth] == self.words))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The group or the command of that name, imported now; None if there is none."""
        if not self.words and cmd_name in GROUPS:
            return Lazy(cmd_name, help=GROUPS[cmd_name], words=(cmd_name,), context_settings=self.context_settings)
        entry = self.entry(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        with extra(entry.extra):
            return getattr(import_module(module), attribute)

    def entry(self, name: str | None) -> Entry | None:
        """The table's line of a subcommand here; None for a group, or if there is none."""
        found = COMMANDS.get(" ".join((*self.words, name or "")))
        return Entry(*found) if found else None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; a package that it imports and that is not installed is an error that names its extra.

        What the machine lacks, a disk that is full say, is one line, too, whichever library comes upon it.
        """
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except ModuleNotFoundError:
            entry = self.entry(ctx.invoked_subcommand)
            if entry is None:
                raise
            with extra(entry.extra):
                raise
        except Exception as error:
            said = lack(error)
            if said is None:
                raise
            raise PressError(said) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of subcommands, from the table alone."""
        entries = {name: self.entry(name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help if entry else GROUPS[name]) for name, entry in entries.items()])


@click.group(cls=Lazy, context_settings={"max_content_width": 110})
@click.version_option(__version__, prog_name="olivepress")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Presses a language model into a small, fine-tuned, on-device ONNX model."""
    if ctx.invoked_subcommand not in WITHOUT_PARAMS and os.path.lexists(PARAMS):
        refuse_trap(PARAMS)
