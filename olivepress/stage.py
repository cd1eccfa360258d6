"""What every stage script shares: its command line, its way to fail and its cost record."""

import errno
import functools
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from olivepress.errors import PressError
from olivepress.outputs import write_json

# An existing file or folder that a stage reads; a place that it writes.
InFile = click.Path(exists=True, dir_okay=False, path_type=Path)
InFolder = click.Path(exists=True, file_okay=False, path_type=Path)
Out = click.Path(path_type=Path)


class Number(click.FloatRange):
    """A finite number within bounds. Click's own range lets NaN through, since NaN is neither below nor above."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def stage(function: Callable[..., dict[str, Any] | None]) -> click.Command:
    """Turn a function into a stage: a Click command with ``--cost`` and the house's error handling.

    ``dvc.yaml`` unpacks params under their own spelling (``--group_size``), people type hyphens: both work.
    The function may return figures of its own (seconds, tokens per second, ...) for the cost file.

    Ctrl-C ends with status 130 and SIGTERM with 143, both after the partial outputs are removed (a download keeps
    what it has, to go on from there). Under `dvc repro` a stage that fails brings earlier outputs back.
    """

    @functools.wraps(function)
    def run(cost: Path | None, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        start = time.perf_counter()
        try:
            figures = function(**options) or {}
        except KeyboardInterrupt:
            click.echo("Interrupted: nothing was written, earlier outputs are untouched.", err=True)
            raise SystemExit(130) from None
        except Exception as error:
            # safetensors reports a full disk as an error of its own, without errno
            if getattr(error, "errno", None) != errno.ENOSPC and "No space left on device" not in str(error):
                raise
            raise PressError(f"no disk space left while writing{_where(error)}: free some and rerun.") from error
        if cost:
            write_json(cost, {"seconds": round(time.perf_counter() - start, 2), **figures, **_machine()})

    cost_option = click.option("--cost", type=Out, help="Where to write the cost: seconds, peak memory, machine.")
    settings = {
        "token_normalize_func": lambda name: name.replace("_", "-"),
        "show_default": True,
        "max_content_width": 110,
    }
    return click.command(context_settings=settings, cls=_Stage)(cost_option(run))


class _Stage(click.Command):
    """A command that leaves earlier outputs where they were if it fails, whatever the reason."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except BaseException as error:
            if not isinstance(error, SystemExit) or error.code:
                _restore_earlier()
            raise


def _restore_earlier() -> None:
    """Put back the outputs that DVC deleted before it started this command, as dvc.lock has them.

    DVC keeps them only with ``persist``, and then its run cache, which lets one machine take another's results, leaves
    the stage out. They come from DVC's cache; figures that only git has, from the last commit.
    """
    name = os.environ.get("DVC_STAGE")
    if not name:
        return
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            for out in repo.stage.load_one(name=name).outs:
                if out.exists or not out.hash_info:
                    continue
                if out.cache.exists(out.hash_info.value):
                    out.use_cache = True  # the run cache has figures, too
                    out.checkout(force=True)
                else:
                    committed = subprocess.run(
                        ["git", "show", f"HEAD:./{out.def_path}"], capture_output=True, check=True
                    )
                    Path(out.fs_path).write_bytes(committed.stdout)
    except (DvcException, OSError, subprocess.CalledProcessError) as error:
        click.echo(f"Earlier outputs could not all be brought back ({error}): try dvc checkout.", err=True)


def _terminate(signum: int, frame: object) -> None:
    """SIGTERM unwinds the stack like an exception, so that partial outputs are removed."""
    click.echo("Terminated: nothing was written, earlier outputs are untouched.", err=True)
    raise SystemExit(128 + signum)


def _where(error: Exception) -> str:
    filename = getattr(error, "filename", None)
    return f" {filename}" if filename else ""


def _machine() -> dict[str, Any]:
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {"peak_memory_mib": round(peak_kib / 1024), "cpus": os.cpu_count(), "machine": platform.machine()}
    torch = sys.modules.get("torch")  # a stage that did without it shall not load it for this
    if torch is not None and torch.cuda.is_initialized():
        figures["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
        figures["peak_gpu_reserved_mib"] = round(torch.cuda.max_memory_reserved() / 2**20)
        figures["gpu"] = torch.cuda.get_device_name()
    return figures
