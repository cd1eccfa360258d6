"""Profiles: choose one, and compose conf/ into params.yaml as `dvc exp run -S` does.

The choice stands in conf/chosen.yaml, which conf/config.yaml includes: every composition takes it, DVC's own as well.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.core.params import NAME, problems
from olivepress.core.strict_yaml import Document, Key, describe, dotted, parse_yaml, read_text, read_yaml

CHOSEN = Path("conf/chosen.yaml")
PARAMS = Path("params.yaml")
# The SHA-256 of what was composed last: params.yaml is as composed, or was edited since. Belongs to the checkout.
COMPOSED = Path(".dvc/tmp/composed.sha256")
CHOICE = re.compile(r"^(\s*- profile: *)([^\s#]+)", re.M)

LONGEST_KEY = 255  # bytes


def compose(root: Path, overrides: list[str], output: Path) -> None:
    """Write the parameters of ``root``/conf under Hydra ``overrides`` to ``output`` (YAML).

    Raises PressError with Hydra's own words for what cannot be composed.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for override in overrides:
        if len(override.partition("=")[0].encode("utf-8", "surrogatepass")) > LONGEST_KEY:  # Hydra looks for such files
            raise PressError(f"conf/ cannot be composed{_with([override])}…: no key is so long.")
    try:
        compose_and_dump(output, str((root / "conf").resolve()), None, "config", str(root), overrides)
    except RecursionError as error:
        raise PressError(f"conf/ cannot be composed{_with(overrides)}: defaults that include themselves.") from error
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, TypeError, AttributeError) as error:
        # the last three are Hydra's, too, of values that it does not expect
        reason = " ".join(str(error).split())
        raise PressError(f"conf/ cannot be composed{_with(overrides)}: {reason[:400]}") from error


def _with(overrides: list[str]) -> str:
    return f" with {' '.join(overrides)[:200]}" if overrides else ""


def profiles(root: Path) -> list[str]:
    """The names of the profiles in conf/profile."""
    return sorted(path.stem for path in (root / "conf/profile").glob("*.yaml") if NAME.fullmatch(path.stem))


def check_profile(root: Path, name: str) -> None:
    """PressError unless there is a profile of that name."""
    if name not in profiles(root):
        there = ", ".join(profiles(root)) or "none"
        raise PressError(f"conf/profile/{name}.yaml: no such profile (there: {there}). olivepress new writes one.")


def chosen(root: Path) -> str:
    """The name of the profile that conf/chosen.yaml holds."""
    path = root / CHOSEN
    found = CHOICE.findall(read_text(path)) if path.is_file() else []
    if len(found) != 1:
        raise PressError(f"{CHOSEN}: expected one line '- profile: NAME': run git checkout {CHOSEN}")
    return found[0][1]


def choose(root: Path, name: str) -> None:
    """Make ``name`` the profile of this checkout."""
    check_profile(root, name)
    before = (root / CHOSEN).read_text(encoding="utf-8")
    if chosen(root) != name:
        (root / CHOSEN).write_text(CHOICE.sub(rf"\g<1>{name}", before), encoding="utf-8")


def refresh(root: Path, profile: str | None = None, overrides: tuple[str, ...] = (), *, afresh: bool = False) -> str:
    """Bring params.yaml up to date with conf/ under ``profile`` (without it, the chosen one); say what changed.

    Edits of params.yaml by hand (or by `dvc exp run -S`) are kept and named, unless another profile is chosen or it is
    composed ``afresh``. Returns what was done, nothing if all is as it was; raises PressError if the result does not
    fit the schema, and then neither params.yaml nor the choice has changed.
    """
    before = chosen(root)
    name = profile or before
    check_profile(root, name)
    for path in sources(root, name):
        document = read_yaml(path)  # OmegaConf reads YAML 1.1, DVC 1.2: what they read differently is refused here
        if "hydra" in document.value:
            document.raise_for([(("hydra",), "Hydra's own settings have no effect here. Take them out.")])
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "params.yaml"
        compose(root, [f"profile={name}", *overrides], output)
        text = read_text(output)
    composed = parse_yaml(text, PARAMS)
    target = root / PARAMS
    switched = name != before
    now = _readable(target, quietly=afresh or switched)
    if now == text:
        said = ""
    elif now and not (afresh or switched or overrides) and not _as_composed(root, now):
        current = parse_yaml(now, PARAMS)
        current.raise_for(problems(current))
        differing = list(differences(current.value, composed.value))
        said = f"profile {name}: params.yaml is kept as it was edited; conf/ has other values (make params takes them):"
        return _listed(said, differing, "params.yaml", "conf/")
    else:
        said = f"profile {name}: params.yaml composed from conf/"
        differing = list(differences(_mapping(now), composed.value))
        if switched and (root / COMPOSED).is_file() and not _as_composed(root, now):
            said += "; what was edited in it by hand is gone"
        elif differing and now and not switched:
            said = _listed(f"{said}:", differing)
    _check_composed(root, name, composed, overrides)
    if switched:
        choose(root, name)
    if now != text:
        with atomic_output(target) as scratch:
            scratch.write_text(text, encoding="utf-8")
    _remember(root, text)
    return said


def sources(root: Path, profile: str) -> list[Path]:
    """The files of conf/ that are composed for ``profile``, from the one that overrides the others."""
    found, todo = [], [root / f"conf/profile/{profile}.yaml"]
    while todo:
        path = todo.pop(0)
        if path in found or not path.is_file():
            continue
        found.append(path)
        defaults = read_yaml(path).value.get("defaults")
        for entry in defaults if isinstance(defaults, list) else []:
            if isinstance(entry, str) and entry != "_self_":
                todo.append(root / f"conf/profile/{entry}.yaml")
    return [*found, root / "conf/config.yaml"]


def differences(one: dict[str, Any], other: dict[str, Any], key: Key = ()) -> Iterator[tuple[Key, Any, Any]]:
    """(key, value in ``one``, value in ``other``) of every leaf that differs; None for one that is not there."""
    for name in dict.fromkeys([*one, *other]):
        left, right = one.get(name), other.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from differences(left, right, (*key, name))
        elif left != right or type(left) is not type(right):
            yield (*key, name), left, right


def _listed(said: str, differing: list[tuple[Key, Any, Any]], left: str = "before", right: str = "now") -> str:
    def show(value: Any) -> str:
        return "not there" if value is None else describe(value).removeprefix("the text ")

    rows = [f"  {dotted(key)}: {show(one)} {left}, {show(other)} {right}" for key, one, other in differing[:20]]
    more = [f"  and {len(differing) - 20} more"] if len(differing) > 20 else []
    return "\n".join([said, *rows, *more])


def _readable(path: Path, *, quietly: bool) -> str:
    """The text of the file, if there is one; ``quietly``: nothing where it cannot be read."""
    try:
        return read_text(path) if path.exists() else ""
    except PressError:
        if quietly:
            return ""
        raise


def _mapping(text: str) -> dict[str, Any]:
    """What params.yaml held before, as far as it can be read."""
    try:
        return parse_yaml(text, PARAMS).value
    except PressError:
        return {}


def _as_composed(root: Path, text: str) -> bool:
    """Whether params.yaml, which holds ``text``, is as it was composed last: here, or for the last commit."""
    record = root / COMPOSED
    if record.is_file():
        return record.read_text(encoding="utf-8").strip() == _digest(text)
    from olivepress.core.git import succeeds

    # a fresh clone: params.yaml as committed, and conf/ edited since
    return succeeds(root, "diff", "--quiet", "HEAD", "--", str(PARAMS)) and not succeeds(
        root, "diff", "--quiet", "HEAD", "--", "conf"
    )


def _remember(root: Path, text: str) -> None:
    record = root / COMPOSED
    if (root / ".dvc").is_dir():
        record.parent.mkdir(exist_ok=True)
        record.write_text(_digest(text) + "\n", encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_composed(root: Path, profile: str, composed: Document, overrides: tuple[str, ...]) -> None:
    """PressError with every problem of the composed params, at its line in conf/."""
    found = problems(composed)
    if not found:
        return
    files = [(path.relative_to(root), read_yaml(path)) for path in sources(root, profile)]

    def place(key: Key) -> str:
        for length in range(len(key), 0, -1):
            for path, document in files:
                if key[:length] in document.lines:
                    return f"{path}:{document.lines[key[:length]]}"
        return str(files[0][0])

    rows = [f"{place(key)}: {dotted(key)}: {text}" for key, text in found[:20]]
    more = [f"and {len(found) - 20} more."] if len(found) > 20 else []
    head = f"profile {profile}{_with(list(overrides))}: {len(found)} problems; params.yaml is as it was:"
    raise PressError("\n  ".join([head, *rows, *more]) if len(found) > 1 else rows[0])


@click.command()
@click.argument("overrides", nargs=-1)
def main(overrides: tuple[str, ...]) -> None:
    """Write params.yaml from conf/ under Hydra OVERRIDES: profile=NAME, which is kept, and others for once."""
    names = [value.partition("=")[2] for value in overrides if value.partition("=")[0] == "profile"]
    if len(names) > 1:
        raise PressError(f"profile: given {len(names)} times. Choose one.")
    others = tuple(value for value in overrides if value.partition("=")[0] != "profile")
    said = refresh(Path.cwd(), names[0] if names else None, others, afresh=True)
    click.echo(said or f"profile {chosen(Path.cwd())}: params.yaml is what conf/ composes to")
