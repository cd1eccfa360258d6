"""Which stages a cluster's machines get: of the default profile, and of one with more adapters and targets."""

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from graph import EVERYTHING

from olivepress.core.errors import PressError
from olivepress.tools.cluster.groups import groups

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")


@pytest.fixture
def project(tmp_path) -> Path:
    """dvc.yaml, params.yaml and a DVC folder; nothing of a run."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\nno_scm = true\n[parsing]\nbool = boolean_optional\nlist = append\n")
    return tmp_path


def test_every_stage_is_in_one_group_after_those_that_it_needs(project):
    every = groups(project)
    stages = [stage for group in every for stage in group.stages]
    assert sorted(stages) == sorted(EVERYTHING)
    for number, group in enumerate(every):
        assert set(group.needs) <= {earlier.name for earlier in every[:number]}


def test_the_groups_of_the_default_profile(project):
    assert {group.name: group.stages for group in groups(project)} == {
        "shared": ("check-params", "fetch", "quantize", "reference-base"),
        "adapter-travel": ("await-data@travel", "prepare@travel", "finetune@travel", "reference@travel"),
        "adapter-cooking": ("await-data@cooking", "prepare@cooking", "finetune@cooking", "reference@cooking"),
        "target-cpu-int4": ("auto-opt@cpu-int4", "evaluate-base@cpu-int4"),
        "travel-on-cpu-int4": (
            "convert-adapter@travel-cpu-int4",
            "smoke-infer@travel-cpu-int4",
            "evaluate@travel-cpu-int4",
        ),
        "cooking-on-cpu-int4": (
            "convert-adapter@cooking-cpu-int4",
            "smoke-infer@cooking-cpu-int4",
            "evaluate@cooking-cpu-int4",
        ),
        "release-cpu-int4": ("gate@cpu-int4", "register@cpu-int4"),
    }


def test_adapters_times_targets(project):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["adapters"] = {f"a-{number}": deepcopy(params["adapters"]["travel"]) for number in range(3)}
    params["shipped"]["adapter"] = ["a-0", "a-1"]  # one is trained and not shipped
    params["targets"] = {name: deepcopy(params["targets"]["cpu-int4"]) for name in ("cpu", "cpu-2", "gpu")}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    every = {group.name: group for group in groups(project)}
    pairs = {f"{adapter}-on-{target}" for adapter in ("a-0", "a-1") for target in params["targets"]}
    assert pairs < every.keys()
    assert every["a-1-on-cpu-2"].needs == ("adapter-a-1", "target-cpu-2")
    assert every["adapter-a-2"].needs == ("shared",)
    assert {"adapter-a-2", "a-0-on-gpu", "a-1-on-gpu"} <= set(every["release-gpu"].needs)
    assert not {"a-0-on-cpu", "target-cpu"} & set(every["release-gpu"].needs)


def test_a_stage_that_is_repeated_over_something_else(project):
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace("foreach: ${targets}", "foreach: ${quantize}", 1))
    with pytest.raises(PressError, match=r"auto-opt is repeated over \$\{quantize\}; .* \$\{adapters\}"):
        groups(project)
