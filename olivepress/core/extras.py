"""What is installed beside the base, by the extras of pyproject.toml, and a clear word where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from olivepress.core.errors import PressError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """A missing package inside the block becomes a PressError that names the extra ``name`` to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "olivepress":
            raise
        raise PressError(
            f"{error.name} is not installed. It comes with olivepress[{name}]: pip install 'olivepress[{name}]', or "
            "make setup in a checkout."
        ) from error
