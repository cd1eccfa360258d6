"""What params.yaml says, under the real `dvc repro`: nothing of it reaches a shell before it is checked."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from environment import lend_environment
from graph import ran

from olivepress.core.params import read_params
from olivepress.tools.profile import compose
from olivepress.tools.reproduce import clone

ROOT = Path(__file__).parents[2]


class Space:
    """A clone where no stage has run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=check)

    def repro(self, *targets: str) -> set[str]:
        return ran(self.run("dvc", "repro", *targets).stdout)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Space:
    """A clone where nothing has run, with the profile tiny."""
    folder = tmp_path_factory.mktemp("params") / "clone"
    clone(ROOT, folder)
    lend_environment(folder)
    compose(folder, ["profile=tiny"], folder / "params.yaml")
    return Space(folder)


@pytest.fixture
def params(fresh):
    """The text of params.yaml, put back afterwards; nothing may have been written by a shell."""
    before = fresh.read("params.yaml")
    yield before
    fresh.write("params.yaml", before)


def refused(space: Space, text: str, *command: str) -> str:
    """What the run says, which fails before any stage but the check, and runs nothing out of the params."""
    space.write("params.yaml", text)
    done = space.run(*(command or ("dvc", "repro")), check=False)
    assert done.returncode != 0
    assert not list(space.folder.rglob("PWNED*")), "a shell ran it"
    assert not (space.folder / "models/base").exists()
    assert "Running stage 'fetch'" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "name",
    ["x; touch PWNED", "$(touch PWNED)", "`touch PWNED`", "a|touch PWNED", "a\ntouch PWNED", "'; touch PWNED; '"],
)
def test_a_hostile_name_is_refused_and_not_run(fresh, params, name):
    quoted = json.dumps(name)
    text = params.replace("  travel:\n", f"  {quoted}:\n").replace("- travel\n", f"- {quoted}\n")
    assert "params.yaml:" in refused(fresh, text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  held_out: 0.15\n", "  held_out: 0.15\n  'x; touch PWNED; ': 1\n"),
        ("  source: data/tiny-phi3\n", "  source: data/tiny-phi3\n  '$(touch PWNED)': 1\n"),
        ("  max_new_tokens: 48\n", "  max_new_tokens: '1; touch PWNED'\n"),
        ("  cpu-int4:\n", "  'c; touch PWNED':\n"),
        ("  source: data/tiny-phi3\n", "  source: \"x'\\ntouch PWNED\\n'\"\n"),
        ("  template: chat\n", "  template: \"{prompt}'\\ntouch PWNED\\n'{response}\"\n"),
        ("provider: CPUExecutionProvider", "provider: '; touch PWNED;'"),
    ],
)
def test_hostile_keys_and_values_are_refused_and_not_run(fresh, params, old, new):
    assert old in params
    assert "params.yaml:" in refused(fresh, params.replace(old, new, 1))


def test_the_check_takes_nothing_from_the_params_and_everything_waits_for_it(fresh):
    check = yaml.safe_load(fresh.read("dvc.yaml"))["stages"]["check-params"]
    assert "$" not in check["cmd"]
    edges = {}
    for line in fresh.run("dvc", "dag", "--dot").stdout.splitlines():
        if "->" in line:
            start, end = (part.strip(' ";') for part in line.split("->"))
            edges.setdefault(end, set()).add(start)
    stages = {line.split()[0] for line in fresh.run("dvc", "stage", "list", "--name-only").stdout.splitlines()}

    def before(stage: str) -> set[str]:
        found = edges.get(stage, set())
        return found.union(*map(before, found)) if found else set()

    assert len(stages) > 10
    for stage in stages - {"check-params"}:
        assert "check-params" in before(stage), f"{stage} does not wait"


def test_make_repro_names_all_before_dvc(fresh, params):
    text = params.replace("steps: 150", "steps: some").replace("bits: 4", "bits: 5")
    said = refused(fresh, text, sys.executable, "-m", "olivepress", "repro")
    assert "finetune.steps" in said and "quantize.bits" in said


@pytest.mark.slow
def test_names_of_files_are_any_and_missing_ones_keep_what_was_made(fresh, params):
    """prepare reads a file whose name a shell would take apart; without it, or the base's folder, nothing is lost."""
    name = 'data/my "odd" file\'s $(touch PWNED) `x`.jsonl'
    shutil.copy(fresh.folder / "data/travel-tiny.jsonl", fresh.folder / name)
    fresh.write("params.yaml", params.replace("data: data/travel-tiny.jsonl", f"data: {json.dumps(name)}"))
    assert read_params(fresh.folder / "params.yaml")["adapters"]["travel"]["data"] == name
    assert "prepare@travel" in fresh.repro("prepare@travel")
    made = [Path(path) for path in ("data/prepared/travel", "models/inputs/data/travel.json", "models/base")]
    assert json.loads(fresh.read(str(made[1])))["data"] == name
    assert not list(fresh.folder.rglob("PWNED*"))

    for missing in (name, "data/tiny-phi3", "data/general-tiny.jsonl"):
        place = fresh.folder / missing
        place.rename(fresh.folder / "away")
        done = fresh.run("dvc", "repro", check=False)
        (fresh.folder / "away").rename(place)
        assert done.returncode != 0
        assert all((fresh.folder / path).exists() for path in made), f"{missing}: {done.stderr}"
    # nothing has changed, so nothing runs again but what waited
    assert fresh.repro("prepare@travel") <= {"check-params", "await-data@travel"}


@pytest.mark.slow
def test_an_adapters_own_sequence_length_prepares_it_again_and_its_rank_does_not(fresh, params):
    fresh.write("params.yaml", params)
    fresh.repro("prepare@travel")
    own = "data: data/travel-tiny.jsonl\n    lora:\n"
    assert own in params
    fresh.write("params.yaml", params.replace(own, own + "      sequence_length: 32\n"))
    assert fresh.repro("prepare@travel") == {"check-params", "prepare@travel"}
    assert json.loads(fresh.read("results/quality/prepare/travel.json"))["cut"]["rows"] > 0
    fresh.write("params.yaml", params.replace("rank: 8", "rank: 4", 1))
    fresh.repro("prepare@travel")
    fresh.write("params.yaml", params.replace("rank: 8", "rank: 2", 1))
    assert fresh.repro("prepare@travel") == {"check-params"}


def test_other_data_of_the_same_adapter_run_it_again(fresh, params):
    """The name of the file is no part of the command."""
    fresh.write("params.yaml", params.replace("data: data/travel-tiny.jsonl", "data: data/cooking-tiny.jsonl", 1))
    assert "prepare@travel" in fresh.repro("prepare@travel")
    assert json.loads(fresh.read("models/inputs/data/travel.json"))["data"] == "data/cooking-tiny.jsonl"
