"""Azure's long-running operations: waited for under a line with the time so far and Azure's word for its state."""

import io
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from olivepress.core.report import note

if TYPE_CHECKING:
    from azure.core.polling import LROPoller


def wait(poller: "LROPoller[Any]", doing: str) -> Any:
    """The operation's result, what Azure raises if it failed. Ctrl-C ends the waiting, not the operation."""
    from tqdm import tqdm

    note(f"{doing} …")
    # the SDK's poller prints dots to the standard output
    with (
        redirect_stdout(io.StringIO()),
        tqdm(desc=doing, bar_format="{desc}: {elapsed}{postfix}", disable=None, file=sys.stderr, leave=False) as bar,
    ):
        while not poller.done():
            poller.wait(1)
            bar.set_postfix_str(str(poller.status()))
        return poller.result()
