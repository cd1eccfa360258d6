"""Licences of models: which are allowed, and what a base model itself says about its own."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.errors import PressError

if TYPE_CHECKING:
    from boolean import Expression

FILES = ("LICENSE*", "NOTICE*")


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

    try:
        parsed = get_spdx_licensing().parse(licence, validate=True)
    except ExpressionError as error:
        parsed = None
        reason = f"no SPDX licence expression ({error})"
    else:
        reason = "not allowed"
    if parsed is None or not _fits(parsed, {name.casefold() for name in allowed}):
        raise PressError(
            f"register.licence: {licence!r}: {reason}. register.allowed_licences has {', '.join(allowed) or 'none'}: "
            "choose another base, or add the licence there once somebody has read it."
        )


def _fits(expression: "Expression", allowed: set[str]) -> bool:
    if expression.__class__.__name__ == "OR":
        return any(_fits(part, allowed) for part in expression.args)
    if expression.__class__.__name__ == "AND":
        return all(_fits(part, allowed) for part in expression.args)
    return expression.render().casefold() in allowed  # "GPL-2.0-only WITH …" is one name


def declared_licence(folder: Path) -> str | None:
    """The ``license`` of the header of a model's README.md, as model hubs read it; None if it says nothing."""
    import yaml

    card = folder / "README.md"
    if not card.is_file():
        return None
    start, _, rest = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
    header, end, _ = rest.partition("\n---")
    if start.strip() or not end:
        return None
    try:
        found: Any = yaml.safe_load(header)
    except yaml.YAMLError:
        return None
    licence = found.get("license") if isinstance(found, dict) else None
    return licence if isinstance(licence, str) and licence != "other" else None


def licence_texts(folder: Path) -> dict[str, str]:
    """Name -> text of the licence and notice files in a model folder."""
    paths = sorted(path for pattern in FILES for path in folder.glob(pattern) if path.is_file())
    return {path.name: path.read_text(encoding="utf-8", errors="replace") for path in paths}
