"""An OpenAI-compatible server for the last run here or a release: olivepress serve"""

from pathlib import Path

import click

from olivepress.core.errors import PressError
from olivepress.core.extras import extra
from olivepress.core.report import note
from olivepress.runtime.graphs import CHOICES
from olivepress.runtime.integrity import VERIFY
from olivepress.tools.chat import exported_here

File = click.Path(exists=True, dir_okay=False, path_type=Path)
Folder = click.Path(exists=True, file_okay=False, path_type=Path)


# a container that cannot be given arguments, as in Azure, has the options in its environment: OLIVEPRESS_SERVE_FOLDER
@click.command(context_settings={"auto_envvar_prefix": "OLIVEPRESS_SERVE"})
@click.option("--folder", type=Folder, help="A release's folder; without it the last run here.")
@click.option("--target", help="The target, where there are several.")
@click.option(
    "--verify",
    type=click.Choice([word for word in VERIFY if word != "none"]),
    default="cached",
    show_default=True,
    help="How FOLDER is held to its manifest: each file hashed once, every time, or small ones only.",
)
@click.option("--graph", type=click.Choice(CHOICES), help="portable, operators, or by what this machine is.")
@click.option("--name", help="What requests call the model; without it the release's name.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one.")
@click.option("--api-keys", type=File, help="A file of keys, one a line; without it everybody may ask.")
@click.option("--admin-token-file", type=File, help="The administrator's token; or OLIVEPRESS_ADMIN_TOKEN.")
@click.option("--adapter-folder", type=Folder, help="Below it lie adapters that may be added while it runs.")
@click.option("--slots", type=click.IntRange(1, 256), default=8, show_default=True, help="Answers at a time.")
@click.option("--queue", type=click.IntRange(0, 100_000), default=64, show_default=True, help="Requests that may wait.")
@click.option("--context-length", type=click.IntRange(2), help="Tokens of prompt and answer; the model's without it.")
@click.option("--together", is_flag=True, help="By the portable graph: faster with adapters, and rounds otherwise.")
@click.option("--timeout", type=click.FloatRange(0.1), default=300, show_default=True, help="Seconds of a request.")
@click.option("--max-body", type=click.IntRange(64), default=2**20, show_default=True, help="Bytes of a request.")
@click.option("--grace", type=click.IntRange(0), default=30, show_default=True, help="Seconds to end in.")
@click.option("--log-prompts", is_flag=True, help="Write what is asked to the log.")
def main(
    folder: Path | None,
    target: str | None,
    verify: str,
    graph: str | None,
    name: str | None,
    host: str,
    port: int,
    api_keys: Path | None,
    admin_token_file: Path | None,
    adapter_folder: Path | None,
    slots: int,
    queue: int,
    context_length: int | None,
    together: bool,
    timeout: float,
    max_body: int,
    grace: int,
    log_prompts: bool,
) -> None:
    """Serve the model of the last run here, or of the release in FOLDER, by OpenAI's HTTP interface."""
    from dataclasses import replace

    with extra("serve"):
        from olivepress.serve.access import Keys, admin_keys, read_keys
        from olivepress.serve.adapters import Adapters
        from olivepress.serve.app import Limits, Service
        from olivepress.serve.engine import Engine
        from olivepress.serve.served import open_release, open_run
        from olivepress.serve.server import serve

    keys = Keys(read_keys(api_keys) if api_keys else None)
    admin = admin_keys(admin_token_file)
    if adapter_folder and not admin:
        raise PressError("--adapter-folder: nobody could add one: give --admin-token-file, or OLIVEPRESS_ADMIN_TOKEN.")
    if folder:
        served = open_release(folder, target, verify=verify, graph=graph, context=context_length, together=together)
    else:
        from olivepress.core.params import read_params  # a consumer, who has a release, needs none of it

        here = exported_here(target)
        params = read_params(Path("params.yaml"))
        served = open_run(
            here,
            params["register"]["name"],
            params["text"]["template"],
            graph=graph,
            context=context_length,
            together=together,
        )
    if name:
        served = replace(served, name=name)
    note(f"Keys and values take up to {served.decoder.bytes_per_token * served.context * slots / 1e6:,.0f} MB.")
    adapters = Adapters(served.decoder, served.adapters, adapter_folder)
    engine = Engine(served.decoder, served.wording.ends, slots=slots, queue=queue)
    limits = Limits(max_body, timeout, log_prompts)
    service = Service(served, adapters, engine, keys=keys, admin=Keys(admin) if admin else None, limits=limits)
    serve(service, host, port, grace)
