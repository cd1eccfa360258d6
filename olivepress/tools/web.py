"""olivepress web: the model as a page that a browser runs by itself."""

from pathlib import Path

import click

from olivepress.core.errors import PressError
from olivepress.runtime.release import checked_release
from olivepress.tools.chat import exported_here
from olivepress.web.site import write_site


@click.command()
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A release's folder.")
@click.option("--target", help="The target, where there are several: one for the CPU.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("web"), show_default=True)
def main(folder: Path | None, target: str | None, out: Path) -> None:
    """Write a folder of static files: a chat page that runs the model of the last run here, or of the release in
    FOLDER, in the browser, with its adapters. npm fetches ONNX Runtime's WebAssembly build; the page needs no network.
    """
    if out.exists() and any(out.iterdir()) and not (out / "page.json").is_file():
        raise PressError(f"{out}: is there, and no page of this command. Choose another --out.")
    if folder:
        found, manifest = checked_release(folder, target, "full")
        title, template = f"{manifest['name']} {manifest['version']}", manifest["params"]["text"]["template"]
    else:
        from olivepress.core.params import read_params  # with a release none of it is needed

        found = exported_here(target)
        params = read_params(Path("params.yaml"))
        title, template = params["register"]["name"], params["text"]["template"]
    size = write_site(found, out, title=title, template=template)
    click.echo(f"{out}: {size / 1e6:.1f} MB. Look at it: python3 -m http.server --bind 127.0.0.1 --directory {out}")
