"""Which stages go together to a machine: what all share, an adapter's, a target's, a pair's, a release's.

    shared ─┬─ adapter-A ─┬─ A-on-T ── release-T
            └─ target-T ──┘

A stage's kind is what dvc.yaml repeats it over: nothing, adapters, targets, or both. A target's stages that wait for a
pair (gate, register) are its release.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from olivepress.core.errors import PressError
from olivepress.core.params import read_params

if TYPE_CHECKING:
    from dvc.stage import Stage

OVER = {"${adapters}": "adapter", "${shipped.adapter}": "adapter", "${targets}": "target"}


@dataclass(frozen=True)
class Group:
    """Stages (DVC's addresses, in the order in which they run) for one machine, and the groups that come before."""

    name: str
    stages: tuple[str, ...]
    needs: tuple[str, ...]


def groups(root: Path) -> list[Group]:
    """The groups of the project in ``root``, each after those that it needs; PressError if they would wait in a circle.

    They come from dvc.yaml and params.yaml alone: nothing of a run has to be there.
    """
    from dvc.repo import Repo

    params = read_params(root / "params.yaml")
    repeated = _repeated(root / "dvc.yaml")
    with Repo(str(root)) as repo:
        graph = repo.index.graph
        # by name: an address depends on where this process is. What `dvc add` tracks has none, and no command.
        stages = [stage for stage in _ordered(graph) if stage.cmd]
        kinds = {stage.name: _kind(stage.name, repeated, params) for stage in stages}
        before = {stage.name: {one.name for one in graph.successors(stage) if one.cmd} for stage in stages}
    names: dict[str, str] = {}
    after_pair: set[str] = set()
    for stage, earlier in before.items():  # in order: what comes before a stage is known
        if any(kinds[one][0] == "pair" or one in after_pair for one in earlier):
            after_pair.add(stage)
        kind, name = kinds[stage]
        release = kind == "target" and stage in after_pair
        names[stage] = f"release-{name}" if release else (f"{kind}-{name}" if name and kind != "pair" else name or kind)
    return list(_joined(names, before))


def _ordered(graph: Any) -> list["Stage"]:
    """Stages after what they need; the order of dvc.yaml where that leaves a choice."""
    found: dict[Stage, None] = {}

    def visit(stage: "Stage") -> None:
        if stage not in found:
            for other in graph.successors(stage):
                visit(other)
            found[stage] = None

    for stage in graph:
        visit(stage)
    return list(found)


def _repeated(path: Path) -> dict[str, str]:
    """Name of a stage in dvc.yaml -> shared, adapter, target or pair."""
    kinds = {}
    for name, stage in yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].items():
        over = {*stage.get("matrix", {}).values()} | ({stage["foreach"]} if "foreach" in stage else set())
        unknown = over - OVER.keys()
        if unknown:
            raise PressError(
                f"{path}: stage {name} is repeated over {', '.join(map(str, unknown))}; a cluster's groups are made of "
                f"{', '.join(OVER)}."
            )
        axes = {OVER[axis] for axis in over}
        kinds[name] = "pair" if len(axes) == 2 else next(iter(axes), "shared")
    return kinds


def _kind(name: str, repeated: dict[str, str], params: dict[str, Any]) -> tuple[str, str]:
    """(kind, name) of a stage: ("shared", ""), ("adapter", "travel"), ("pair", "travel-on-cpu-int4")."""
    stage, _, key = name.partition("@")
    kind = repeated[stage]
    if kind != "pair":
        return kind, key
    every = ((adapter, target) for adapter in params["adapters"] for target in params["targets"])
    pairs = {f"{adapter}-{target}": f"{adapter}-on-{target}" for adapter, target in every}
    return kind, pairs[key]


def _joined(names: dict[str, str], before: dict[str, set[str]]) -> Iterable[Group]:
    """The groups in an order in which each follows those that it needs."""
    members: dict[str, list[str]] = {}
    for stage, name in names.items():
        members.setdefault(name, []).append(stage)
    needs = {
        name: {names[other] for stage in stages for other in before[stage]} - {name} for name, stages in members.items()
    }
    done: set[str] = set()
    while len(done) < len(members):
        ready = [name for name in members if name not in done and needs[name] <= done]
        if not ready:
            circle = ", ".join(sorted(members.keys() - done))
            raise PressError(f"dvc.yaml: the groups {circle} would wait for one another.")
        for name in ready:
            yield Group(name, tuple(members[name]), tuple(sorted(needs[name])))
        done.update(ready)
