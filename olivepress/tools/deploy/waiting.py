"""Azure's long-running operations: waited for under a line with the time so far and Azure's word for its state."""

import io
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from olivepress.core.errors import PressError
from olivepress.core.report import note

if TYPE_CHECKING:
    from azure.core.polling import LROPoller


class Failed(PressError):
    """Azure began what it was asked for, and it came to nothing."""


def wait(poller: "LROPoller[Any]", doing: str) -> Any:
    """The operation's result; Failed with Azure's words if it failed. Ctrl-C ends the waiting, not the operation."""
    from azure.core.exceptions import HttpResponseError
    from tqdm import tqdm

    note(f"{doing} …")
    # the SDK's poller prints dots to the standard output
    with (
        redirect_stdout(io.StringIO()),
        tqdm(desc=doing, bar_format="{desc}: {elapsed}{postfix}", disable=None, file=sys.stderr, leave=False) as bar,
    ):
        try:
            while not poller.done():
                poller.wait(1)
                bar.set_postfix_str(str(poller.status()))
            return poller.result()
        except HttpResponseError as error:
            if (error.status_code or 0) >= 400:  # a call was refused, not what it is about
                raise
            raise Failed(f"{doing}: Azure could not do it: {' '.join(str(error.message).split())[:600]}") from error
