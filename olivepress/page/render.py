"""The page as HTML: one file with its style in it and no script, which loads nothing."""

import base64
import hashlib
import unicodedata
from typing import Any

from markupsafe import Markup

from olivepress.page.contents import COMPARED, Contents
from olivepress.page.figures import METRICS, figure, size, written
from olivepress.page.provenance import Comparison, Provenance


def render(page: Contents, source: Provenance, against: Comparison | None) -> str:
    """The HTML of ``page``; the same for the same results and the same commit."""
    return render_template("page.html", page=page, source=source, against=against, metrics=METRICS, compared=COMPARED)


def render_template(name: str, **values: Any) -> str:
    """A page of ours, with its style in it, and ``style_hash`` for its content security policy."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("olivepress.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=readable,
    )
    environment.filters |= {"figure": figure, "size": size, "written": written}
    style = environment.loader.get_source(environment, "style.css")[0]
    return environment.get_template(name).render(
        **values,
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        svg=Markup,
    )


def readable(value: Any) -> Any:
    """Text without what HTML cannot hold (control characters, halves of surrogate pairs); anything else as it is.

    Autoescape takes care of what HTML could take for its own.
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "".join("\N{REPLACEMENT CHARACTER}" if _unprintable(each) else each for each in value)


def _unprintable(character: str) -> bool:
    return character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs")
