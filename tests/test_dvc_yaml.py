"""dvc.yaml, params.yaml and conf/ agree with the code."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from olivepress.tools.profile import compose

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def source(module: str) -> str:
    """The file of a module or package; no file for a name inside a module."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"


def imported(path: str) -> set[str]:
    """The project's modules that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "olivepress":
            names = [source(f"{node.module}.{alias.name}") for alias in node.names]
            found |= {name if (ROOT / name).is_file() else source(node.module) for name in names}
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("olivepress") for alias in node.names), f"{path}: use from … import"
    return found


def closure(script: str) -> set[str]:
    """A script and every project module that it imports, directly or not."""
    seen: set[str] = set()
    todo = [script]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += imported(path)
    return seen


def code_deps(stage: dict) -> set[str]:
    return {dep for dep in stage["deps"] if dep.startswith(("olivepress/", "stages/"))}


SCRIPTED = [name for name in STAGES if name != "await-data"]  # which is two words of a shell


@pytest.mark.parametrize("name", SCRIPTED)
def test_deps_are_exactly_the_packages_that_a_stage_imports(name):
    stage = STAGES[name].get("do", STAGES[name])
    script = re.match(r"python -m (stages\.\w+) ", stage["cmd"])[1].replace(".", "/") + ".py"
    packages = {"/".join(Path(path).parts[:2]) for path in closure(script) - {script, "olivepress/__init__.py"}}
    assert code_deps(stage) == {script} | packages
    assert script == f"stages/{name.replace('-', '_')}.py"


def test_the_general_set_is_read_by_one_stage():
    """Every other step has its rows from what that stage wrote."""
    readers = {
        name for name in STAGES if "evaluate.general_data" in STAGES[name].get("do", STAGES[name]).get("params", [])
    }
    assert readers == {"reference-base"}


def test_dvc_yaml_stays_readable():
    assert sum(len(code_deps(stage.get("do", stage))) for stage in STAGES.values()) <= 50


@pytest.mark.parametrize("name", STAGES)
def test_every_result_can_come_from_the_run_cache_and_cost_is_no_out(name):
    stage = STAGES[name].get("do", STAGES[name])
    outs = [(kind, out) for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    assert outs
    for kind, out in outs:
        ((path, options),) = out.items() if isinstance(out, dict) else [(out, {})]
        # DVC's run cache takes no stage with an out that persists, or one of these that is not cached
        assert ("persist" in options) == (name == "check-params"), path
        assert kind != "outs" or options.get("cache", True), path
        assert "results/cost" not in path
    assert name not in SCRIPTED or "--cost results/cost/" in stage["cmd"]


def test_params_yaml_is_the_composed_default(tmp_path):
    compose(ROOT, [], tmp_path / "params.yaml")
    assert (ROOT / "params.yaml").read_text() == (tmp_path / "params.yaml").read_text()


def test_every_profile_composes_to_the_same_keys(tmp_path):
    default = yaml.safe_load((ROOT / "params.yaml").read_text())
    for profile in sorted((ROOT / "conf/profile").glob("*.yaml")):
        compose(ROOT, [f"profile={profile.stem}"], tmp_path / "params.yaml")
        params = yaml.safe_load((tmp_path / "params.yaml").read_text())
        assert params.keys() == default.keys()
        for key in ("model", "quantize", "finetune", "evaluate", "thresholds", "register"):
            assert params[key].keys() == default[key].keys(), f"{profile.name}: {key}"


LOCKS = [
    "requirements.txt",
    "requirements-torch.txt",
    "requirements-webgpu.txt",
    "requirements-cluster.txt",
    "docker/requirements-cuda12.txt",
    "docker/serve/requirements.txt",
    "docker/serve/requirements-cuda12.txt",
]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_package_by_hash_and_names_no_index(lock):
    first, *entries = re.split(r"^(?=[\w.-]+==)", (ROOT / lock).read_text(), flags=re.M)
    assert re.fullmatch(r"# Compiled .*\n", first)
    assert entries
    pin = re.compile(r"[\w.-]+==[\w.!+-]+(?: ; .*)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n")
    for entry in entries:
        assert pin.fullmatch(entry), entry[:80]


@pytest.mark.parametrize("name", ["requirements", "requirements-webgpu", "requirements-cluster"])
def test_the_lock_has_everything_that_is_asked_for_at_the_version_that_is_asked_for(name):
    locked = dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", (ROOT / f"{name}.txt").read_text(), re.M))
    wanted = re.findall(r"^([\w-]+)(?:\[[\w,]+\])?(?:==([\w.]+))?", (ROOT / f"{name}.in").read_text(), re.M)
    assert wanted
    for package, version in wanted:
        assert package in locked, f"{package}: run make lock"
        assert version in ("", locked[package]), f"{package}: run make lock"
