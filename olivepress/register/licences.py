"""Licences of models: which may be released, and the texts that go along."""

from collections.abc import Collection
from pathlib import Path
from unicodedata import category

from olivepress.core.documents import licence_files
from olivepress.core.errors import PressError


def check_licence(licence: str, allowed: Collection[str], declared: str | None) -> None:
    """PressError unless ``licence`` is allowed and agrees with what the base's own card declares.

    ``licence`` is an SPDX identifier or expression, or any text that ``allowed`` holds as it stands (many models have
    a licence of their own). Of ``A OR B`` one must be allowed, of ``A AND B`` both. ``declared`` may be unknown.
    """
    if declared and declared.casefold() != licence.casefold():
        raise PressError(
            f"register.licence: {licence!r}, but the base's README.md declares {declared!r}. "
            "Look at its licence, and set register.licence to what holds."
        )
    if licence in allowed:
        return
    from license_expression import ExpressionError, get_spdx_licensing

    spdx = get_spdx_licensing()
    names = {name.casefold() for name in allowed}
    reason = "not allowed"
    try:
        expression = spdx.parse(licence, validate=True)
        if expression is not None:
            # a symbol is one licence, "GPL-2.0-only WITH …" too
            verdicts = {s: spdx.TRUE if s.render().casefold() in names else spdx.FALSE for s in expression.symbols}
            if expression.subs(verdicts).simplify() == spdx.TRUE:
                return
    except ExpressionError as error:
        reason = f"no SPDX licence expression ({error})"
    raise PressError(
        f"register.licence: {licence!r}: {reason}. register.allowed_licences has {', '.join(allowed) or 'none'}: "
        "choose another base, or add the licence there once somebody has read it."
    )


def licence_texts(folder: Path) -> dict[str, str]:
    """Name -> text of the licence and notice files in a model folder."""
    return {path.name: _drawn(path.read_text(encoding="utf-8", errors="replace")) for path in licence_files(folder)}


def _drawn(text: str) -> str:
    """The text without what a terminal would obey; many licences have form feeds."""
    return "".join(one for one in text if one in "\n\t" or category(one) not in ("Cc", "Cf"))
