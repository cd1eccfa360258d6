"""The results of a run as its stages wrote them: small files, which are there without the models."""

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from olivepress.core.errors import PressError, first_sentence
from olivepress.core.gates import Thresholds, Verdict, read_measured, verdicts
from olivepress.core.outputs import as_written
from olivepress.core.params import read_params
from olivepress.core.proof import never_run

MODELS = ("models/base", "models/quantized", "models/adapters/", "models/onnx/")


@dataclass(frozen=True)
class Standing:
    """What is known of the targets: those not measured, those whose metrics are of an earlier run, and all verdicts.

    ``found``: (target, verdict) for every metric that has a threshold.
    """

    unmeasured: list[str]
    outdated: list[str]
    found: list[tuple[str, Verdict]]

    @property
    def missed(self) -> list[tuple[str, Verdict]]:
        return [(target, each) for target, each in self.found if not each.ok]


@dataclass(frozen=True)
class Results:
    """What lies below ``root``; ``stale``: the stages whose results are of an earlier run."""

    root: Path
    params: dict[str, Any]
    lock: dict[str, Any]  # the stages of dvc.lock
    stale: set[str]

    @property
    def targets(self) -> list[str]:
        return list(self.params["targets"])

    @property
    def adapters(self) -> list[str]:
        return list(self.params["shipped"]["adapter"])

    @property
    def models(self) -> dict[str, int]:
        """Path -> bytes of the models and adapters that dvc.lock names; they need not be here."""
        outs = (out for stage in self.lock.values() for out in stage.get("outs", []))
        sizes = {out["path"]: out.get("size", 0) for out in outs if out["path"].startswith(MODELS)}
        return dict(sorted(sizes.items()))

    def verdicts(self, target: str) -> list[Verdict]:
        """The thresholds that ``target`` is held to; none where it was not measured (for all adapters)."""
        try:
            measured = read_measured(self.root / "results", target, self.adapters)
        except (OSError, PressError):
            return []
        try:
            thresholds = Thresholds(**self.params["thresholds"])
        except TypeError as error:  # a key too many or too few
            raise PressError(
                f"{self.root / 'params.yaml'}: thresholds: not those of today ({error}): make params writes them anew."
            ) from error
        return verdicts(measured, thresholds)

    def never_run(self, target: str) -> bool:
        """Whether ``target`` is exported and no more: its figures are PyTorch's, and its size."""
        return never_run(self.read(f"quality/auto-opt/{target}"))

    def outdated(self, target: str) -> bool:
        """Whether a metric of ``target`` is of an earlier run."""
        base = {"reference-base", f"auto-opt@{target}", f"evaluate-base@{target}"}
        kinds = ("reference@{name}", "convert-adapter@{name}-{target}", "evaluate@{name}-{target}")
        adapted = {kind.format(name=name, target=target) for kind in kinds for name in self.adapters}
        return bool((base | adapted) & self.stale)

    @cached_property
    def standing(self) -> Standing:
        """The targets and their verdicts, all together."""
        found = {target: self.verdicts(target) for target in self.targets}
        return Standing(
            unmeasured=[target for target, measured in found.items() if not measured],
            outdated=[target for target in self.targets if self.outdated(target)],
            found=[(target, each) for target, measured in found.items() for each in measured],
        )

    def read(self, path: str) -> Any:
        """The JSON of results/``path``.json, an empty dict where there is none; PressError if it is broken."""
        return self.json(f"results/{path}.json")

    def json(self, path: str) -> Any:
        """The JSON of a file below the root, an empty dict where there is none; PressError if it is broken."""
        file = self.root / path
        if not file.is_file():
            return {}
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise PressError(f"{file}: cannot be read as JSON ({error}). make repro writes it again.") from error

    def rows(self, path: str) -> list[dict[str, str]]:
        """The rows of results/``path``.csv, none where there is no file."""
        file = self.root / f"results/{path}.csv"
        if not file.is_file():
            return []
        with file.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))

    def cost(self, stage: str) -> dict[str, Any]:
        """Seconds, memory and speed of a stage on this machine; empty where it has not run here."""
        return self.json(self.cost_path(stage))

    def cost_path(self, stage: str) -> str:
        """Where a stage writes its cost: what its command in dvc.lock says."""
        words = self.lock.get(stage, {}).get("cmd", "").split()
        return words[words.index("--cost") + 1] if "--cost" in words[:-1] else f"results/cost/{stage}.json"

    def answers(self, target: str) -> dict[str, dict[str, str]]:
        """Prompt -> who ("" without an adapter) -> what smoke-infer got as an answer."""
        given: dict[str, dict[str, str]] = {}
        for name in self.adapters:
            path = f"answers/{target}/{name}"
            with as_written(self.root / f"results/{path}.json"):
                for answer in self.read(path):
                    given.setdefault(answer["prompt"], {}).setdefault(answer["adapter"] or "", str(answer["text"]))
        return given


def read(root: Path, stale: set[str]) -> Results:
    """The results below ``root``; PressError where nothing has run."""
    params, lock = root / "params.yaml", root / "dvc.lock"
    if not params.is_file() or not lock.is_file():
        raise PressError(f"{root}: no params.yaml or no dvc.lock: nothing has run here. Run the pipeline: make repro")
    return Results(root, read_params(params), read_stages(lock), stale)


def read_stages(path: Path) -> dict[str, Any]:
    """The stages of a dvc.yaml or dvc.lock; PressError if it is none."""
    try:
        stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
        if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
            raise TypeError("stages are no objects")
    except (OSError, ValueError, LookupError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise PressError(
            f"{path}: is no {path.name} of DVC's ({first_sentence(error)}): git has an earlier one."
        ) from error
    return stages
