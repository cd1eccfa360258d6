"""The chosen profile stays chosen, edits of conf/ are composed in, edits of params.yaml are kept or named."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from olivepress.core.errors import PressError
from olivepress.core.params import read_params
from olivepress.tools import profile
from olivepress.tools.profile import chosen, compose, profiles, refresh

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A git repository with the params and what they are composed from, as committed, profile tiny."""
    for name in ("conf", ".dvc/config", ".dvc/.gitignore", "dvc.yaml", ".gitignore"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    edit(tmp_path / "conf/chosen.yaml", f"profile: {chosen(ROOT)}", "profile: tiny")
    monkeypatch.chdir(tmp_path)
    compose(tmp_path, [], tmp_path / "params.yaml")
    git(tmp_path, "init", "-q")
    for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
        git(tmp_path, "config", key, value)
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "as it is")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def steps(folder: Path) -> int:
    return read_params(folder / "params.yaml")["finetune"]["steps"]


def test_nothing_to_do_says_nothing_and_changes_nothing(project):
    assert refresh(project) == ""
    assert refresh(project, "tiny") == ""
    assert git(project, "status", "--porcelain") == ""


def test_the_chosen_profile_stays_for_params_repro_and_composition(project):
    assert refresh(project, "phi-3.5-mini") == "profile phi-3.5-mini: params.yaml composed from conf/"
    assert chosen(project) == "phi-3.5-mini"
    assert refresh(project) == ""
    assert CliRunner().invoke(profile.main, []).exit_code == 0
    assert "Phi-3.5-mini" in read_params(project / "params.yaml")["model"]["source"]
    compose(project, ["finetune.steps=3"], project / "composed.yaml")  # what dvc exp run -S calls
    assert "Phi-3.5-mini" in read_params(project / "composed.yaml")["model"]["source"]
    assert git(project, "diff", "--name-only").split() == ["conf/chosen.yaml", "params.yaml"]


@pytest.mark.parametrize("name", ["tiny", "phi-3.5-mini"])
def test_dvc_exp_run_composes_the_chosen_profile(project, name):
    """Queued: composed as for a run in the workspace, and nothing has to run."""
    refresh(project, name)
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    command = ["dvc", "exp", "run", "--queue", "-S", "finetune.steps=3", "-n", "short"]
    subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)
    queued = yaml.safe_load(git(project, "show", "refs/exps/celery/stash:params.yaml"))
    assert queued["finetune"]["steps"] == 3
    assert queued["model"] == read_params(project / "params.yaml")["model"]


def test_an_edit_under_conf_is_composed_in_and_named(project):
    edit(project / "conf/profile/tiny.yaml", "steps: 150", "steps: 70")
    said = refresh(project)
    assert said == "profile tiny: params.yaml composed from conf/:\n  finetune.steps: 150 before, 70 now"
    assert steps(project) == 70
    edit(project / "conf/config.yaml", "held_out: 0.15", "held_out: 0.2")
    assert "prepare.held_out: 0.15 before, 0.2 now" in refresh(project)
    assert refresh(project) == ""


def test_an_edit_of_params_is_kept_and_named_until_params_are_asked_for(project):
    refresh(project)
    edit(project / "params.yaml", "steps: 150", "steps: 30")
    for _ in range(2):
        assert "params.yaml is kept as it was edited" in (said := refresh(project))
        assert "finetune.steps: 30 params.yaml, 150 conf/" in said
        assert steps(project) == 30
    edit(project / "conf/config.yaml", "held_out: 0.15", "held_out: 0.2")
    said = refresh(project)
    assert "prepare.held_out: 0.15 params.yaml, 0.2 conf/" in said, "it says that conf/'s edit was not composed in"
    assert steps(project) == 30
    done = CliRunner().invoke(profile.main, [])
    assert "finetune.steps: 30 before, 150 now" in done.output
    assert steps(project) == 150


def test_a_committed_edit_of_params_is_kept_in_a_fresh_clone(project, tmp_path_factory):
    edit(project / "params.yaml", "steps: 150", "steps: 30")
    commit(project)
    clone = tmp_path_factory.mktemp("clone") / "clone"
    git(project, "clone", "-q", str(project), str(clone))
    assert "kept as it was edited" in refresh(clone)
    assert steps(clone) == 30


def test_an_edit_of_params_goes_with_the_profile_and_that_is_said(project):
    refresh(project)
    edit(project / "params.yaml", "steps: 150", "steps: 30")
    assert refresh(project, "phi-3.5-mini").endswith("; what was edited in it by hand is gone")
    assert steps(project) == 100


def test_other_values_hold_once(project):
    done = CliRunner().invoke(profile.main, ["finetune.steps=5", "profile=tiny"])
    assert done.exit_code == 0 and steps(project) == 5
    assert CliRunner().invoke(profile.main, []).exit_code == 0
    assert steps(project) == 150


@pytest.mark.parametrize("name", ["../../evil", "huge", "", "tiny.yaml", "/etc/passwd", "$(touch PWNED)", "a b"])
def test_a_profile_that_is_none(project, name):
    (project / "evil.yaml").write_text("evil: true\n")
    with pytest.raises(PressError, match=r"no such profile \(there: .*tiny"):
        profile.check_profile(project, name)
    if name:
        done = CliRunner().invoke(profile.main, [f"profile={name}"])
        assert done.exit_code == 1 and "no such profile" in done.output
    assert git(project, "diff") == ""


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("conf/profile/tiny.yaml", "steps: 150", "steps: many", "conf/profile/tiny.yaml:{line}: finetune.steps: found"),
        ("conf/profile/tiny.yaml", "steps: 150", "stepz: 150", "Did you mean steps?"),
        (
            "conf/profile/tiny.yaml",
            "steps: 150",
            "steps: 0150",
            "conf/profile/tiny.yaml:{line}: finetune.steps: 0150 is",
        ),
        (
            "conf/profile/tiny.yaml",
            "  steps: 150",
            "\tsteps: 150",
            "conf/profile/tiny.yaml:{line}: not valid YAML: a tab",
        ),
        ("conf/config.yaml", "held_out: 0.15", "held_out: 15", "conf/config.yaml:{line}: prepare.held_out: found 15"),
        ("conf/config.yaml", "held_out: 0.15", "held_out: ${nope}", "conf/ cannot be composed"),
        ("conf/config.yaml", "prepare:", "<<<<<<< HEAD\nprepare:", "a merge conflict is not resolved"),
        ("conf/chosen.yaml", "- profile: tiny", "", "expected one line '- profile: NAME'"),
        ("conf/chosen.yaml", "- profile: tiny", "- profile: gone", "conf/profile/gone.yaml: no such profile"),
    ],
)
def test_what_is_wrong_in_conf_is_named_there_and_params_stay(project, file, old, new, said):
    path = project / file
    line = path.read_text().partition(old)[0].count("\n") + 1
    edit(path, old, new)
    before = (project / "params.yaml").read_text()
    with pytest.raises(PressError) as caught:
        refresh(project)
    assert said.format(line=line) in caught.value.message
    assert (project / "params.yaml").read_text() == before


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("conf/chosen.yaml", b"defaults:\n  - profile: tiny\n\xff", "conf/chosen.yaml:3: not UTF-8"),
        ("conf/profile/tiny.yaml", "# @package _global_\ndefaults: [tiny]\n".encode("utf-16"), ":1: UTF-16"),
        ("conf/profile/tiny.yaml", b"# @package _global_\ndefaults: [tiny]\n", "defaults that include themselves"),
        ("conf/profile/tiny.yaml", b"hydra: {run: {dir: /x}}\n", "tiny.yaml:1: hydra: Hydra's own settings have no"),
    ],
)
def test_a_file_of_conf_that_cannot_be_taken_is_named(project, file, content, said):
    before = (project / "params.yaml").read_bytes()
    (project / file).write_bytes(content)
    with pytest.raises(PressError) as caught:
        refresh(project, afresh=True)
    assert said in caught.value.message
    assert (project / "params.yaml").read_bytes() == before


def test_params_with_conflict_markers_are_named_and_params_composes_them_afresh(project):
    edit(project / "params.yaml", "prepare:", "<<<<<<< HEAD\nprepare:")
    with pytest.raises(PressError, match=r"params\.yaml:\d+: a merge conflict"):
        refresh(project)
    assert CliRunner().invoke(profile.main, []).exit_code == 0
    assert steps(project) == 150


def test_a_profile_has_all_that_belongs_to_a_model():
    """conf/config.yaml lends no licence, name, threshold, data or prompt to a profile that forgets its own."""
    shared = yaml.safe_load((ROOT / "conf/config.yaml").read_text())
    assert not shared.keys() & {
        "model",
        "adapters",
        "quantize",
        "finetune",
        "targets",
        "evaluate",
        "thresholds",
        "smoke_infer",
    }
    assert not shared["register"].keys() & {"name", "licence"}
    assert {"tiny", "phi-3.5-mini", "phi-3.5-mini-random"} <= set(profiles(ROOT))
    for name in profiles(ROOT):
        head = (ROOT / f"conf/profile/{name}.yaml").read_text().splitlines()[:2]
        assert head[0] == "# @package _global_" and f"make repro PROFILE={name}" in head[1], (
            "it begins with its command"
        )


def test_a_key_longer_than_a_file_s_name_is_refused(tmp_path):
    with pytest.raises(PressError, match=r"conf/ cannot be composed with a{190,200}.*: no key is so long"):
        compose(ROOT, ["a" * 300], tmp_path / "params.yaml")


@pytest.mark.parametrize("value", ["0", "[0]"])
def test_a_profile_that_hydra_takes_for_no_text_is_refused(tmp_path, value):
    with pytest.raises(PressError, match=re.escape(f"conf/ cannot be composed with profile={value}: ")):
        compose(ROOT, [f"profile={value}"], tmp_path / "params.yaml")
