"""dvc.yaml, params.yaml and conf/ agree with the code."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from olivepress.profile import compose

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def imported(path: str) -> set[str]:
    """The project's modules that a file imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "olivepress":
            found |= {f"olivepress/{alias.name}.py" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("olivepress."):
            found.add(node.module.replace(".", "/") + ".py")
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


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_exactly_the_modules_that_a_stage_imports(name):
    stage = STAGES[name].get("do", STAGES[name])
    script = re.match(r"python -m (stages\.\w+) ", stage["cmd"])[1].replace(".", "/") + ".py"
    code = {dep for dep in stage["deps"] if dep.endswith(".py")}
    assert code == closure(script)
    assert script == f"stages/{name.replace('-', '_')}.py"


@pytest.mark.parametrize("name", STAGES)
def test_every_result_can_come_from_the_run_cache_and_cost_is_no_out(name):
    stage = STAGES[name].get("do", STAGES[name])
    outs = [(kind, out) for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    assert outs
    for kind, out in outs:
        ((path, options),) = out.items() if isinstance(out, dict) else [(out, {})]
        # DVC's run cache takes no stage with an out that persists, or one of these that is not cached
        assert "persist" not in options, path
        assert kind != "outs" or options.get("cache", True), path
        assert "results/cost" not in path
    assert "--cost results/cost/" in stage["cmd"]


def test_params_yaml_is_the_composed_default(tmp_path):
    compose(ROOT, [], tmp_path / "params.yaml")
    assert (ROOT / "params.yaml").read_text() == (tmp_path / "params.yaml").read_text()


def test_every_profile_composes_to_the_same_keys(tmp_path):
    default = yaml.safe_load((ROOT / "params.yaml").read_text())
    for profile in sorted((ROOT / "conf/profile").glob("*.yaml")):
        compose(ROOT, [f"profile={profile.stem}"], tmp_path / "params.yaml")
        params = yaml.safe_load((tmp_path / "params.yaml").read_text())
        assert params.keys() == default.keys()
        for key in ("model", "quantize", "finetune", "evaluate", "register"):
            assert params[key].keys() == default[key].keys(), f"{profile.name}: {key}"


def test_the_lock_names_no_index_and_pins_everything():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w.\[\],-]+==[\w.!+]+( ?;.*)?", line), line
    wanted = re.findall(r"^([\w-]+(?:\[[\w,]+\])?)(==[\w.]+)?", (ROOT / "requirements.in").read_text(), re.M)
    pinned = {line.partition("==")[0].partition("[")[0] for line in lines}
    assert {name.partition("[")[0] for name, _ in wanted} <= pinned
