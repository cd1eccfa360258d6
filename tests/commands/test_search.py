"""olivepress search: what is tried, what is chosen, that it goes on where it was stopped, and that it touches nothing.

Trials here are a DVC pipeline of a few lines with the real one's stages and results; tests/pipeline/test_search.py
searches with the real one.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from copies import copy_tree

from olivepress.core.errors import PressError
from olivepress.core.params import read_params
from olivepress.tools.profile import chosen, compose
from olivepress.tools.search.choice import Candidate, Limits, Speed, choose, misses, pareto
from olivepress.tools.search.command import main, only_of, seconds_of
from olivepress.tools.search.space import Facts, known, short, space_of
from olivepress.tools.search.study import Budget, Study
from olivepress.tools.search.trial import Measured

ROOT = Path(__file__).parents[2]
LIMITS = ("--max-loss-increase", "0.05", "--max-megabytes", "0.01")
# A larger group is smaller and loses more; what was quantized is written down.
PIPELINE = """
stages:
  fetch:
    cmd: mkdir -p models && cp -r data/tiny-phi3 models/base
    deps: [data/tiny-phi3]
    outs: [models/base]
  reference-base:
    cmd: python stage.py quantize
    deps: [models/base, stage.py]
    params: [quantize]
    outs: [models/quantized]
  auto-opt:
    foreach: ${targets}
    do:
      cmd: python stage.py export ${key} ${item.lm_head}
      deps: [models/quantized]
      outs: ["models/onnx/${key}/model"]
      metrics: ["results/quality/auto-opt/${key}.json": {cache: false}]
  evaluate-base:
    foreach: ${targets}
    do:
      cmd: python stage.py evaluate ${key}
      deps: ["models/onnx/${key}/model"]
      metrics: ["results/intervals/${key}/general.json": {cache: false}]
"""
STAGE = """
import json, os, sys, time, yaml
from pathlib import Path

def write(path, value):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value))

what, *arguments = sys.argv[1:]
if what == "quantize":
    settings = yaml.safe_load(open("params.yaml"))["quantize"]
    with open(f"{os.environ['SEARCHED']}/done", "a") as done:
        print(settings["algorithm"], settings["group_size"], file=done)
    if settings["algorithm"] == "gptq":
        sys.exit("ERROR: gptq takes no such weights")
    if Path(os.environ["SEARCHED"], "slow").exists() and settings["group_size"] == 64:
        time.sleep(60)
    write("models/quantized/settings.json", settings)
elif what == "export":
    settings = json.loads(Path("models/quantized/settings.json").read_text())
    size = 16000 - 100 * settings["group_size"] + {"int4": 0, "int8": 1000, "float": 3000}[arguments[1]]
    write(f"models/onnx/{arguments[0]}/model/settings.json", {**settings, "head": arguments[1]})
    write(f"results/quality/auto-opt/{arguments[0]}.json", {"bytes": size})
else:
    settings = json.loads(Path(f"models/onnx/{arguments[0]}/model/settings.json").read_text())
    loss = settings["group_size"] / 2000 + {"int4": 0.01, "int8": 0.001, "float": 0}[settings["head"]]
    entry = {"set": "general", "metric": "loss", "step": "quantized_onnx", "minus": "base"}
    write(
        f"results/intervals/{arguments[0]}/general.json",
        [{**entry, "minus": None, "value": 9, "low": 9, "high": 9},
         {**entry, "value": loss, "low": loss - 0.01, "high": loss + 0.01}],
    )
"""


@pytest.fixture(scope="session")
def small_project(once) -> Path:
    """A git repository with conf/, the tiny base and a pipeline of a few lines. Copy it, do not change it."""

    def make(folder: Path) -> None:
        for name in ("conf", ".dvc/config", ".dvc/.gitignore", ".gitignore", "data/tiny-phi3"):
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        for name in ("calibration", "general-tiny", "travel-tiny", "cooking-tiny"):
            shutil.copy(ROOT / f"data/{name}.jsonl", folder / f"data/{name}.jsonl")
        choice = folder / "conf/chosen.yaml"
        choice.write_text(choice.read_text().replace(f"profile: {chosen(ROOT)}", "profile: tiny"))
        compose(folder, [], folder / "params.yaml")
        (folder / "stage.py").write_text(STAGE)
        (folder / "dvc.yaml").write_text(PIPELINE)
        (folder / "results/quality/gate").mkdir(parents=True)
        (folder / "results/quality/gate/cpu-int4.json").write_text("{}")
        git(folder, "init", "-q", "-b", "main")
        for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
            git(folder, "config", key, value)
        git(folder, "add", "--all")
        git(folder, "commit", "-q", "-m", "as it is")

    return once("search-project", make)


@pytest.fixture
def project(small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, and the working folder; the stages write beside it what they have quantized."""
    copy_tree(small_project, tmp_path / "project")
    monkeypatch.setenv("SEARCHED", str(tmp_path))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def search(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*LIMITS, *arguments], catch_exceptions=False)


def made(project: Path) -> list[str]:
    """What was quantized, a line each time."""
    return (project.parent / "done").read_text().splitlines()


# --- the whole of it


@pytest.mark.slow
def test_a_search_ends_with_a_profile_and_leaves_the_project_as_it_was(project):
    (project / "conf/profile/untracked.yaml").write_text((project / "conf/profile/tiny.yaml").read_text())
    (project / "stage.py").write_text((project / "stage.py").read_text() + "\n# not committed\n")
    before, status = (project / "params.yaml").read_bytes(), git(project, "status", "--porcelain")
    wanted = ("algorithm=rtn", "group_size=64,128", "lm_head=int8,int4", "embedding=int8")
    settings = ("--trials", "9", *(word for setting in wanted for word in ("--set", setting)))
    done = search(*settings)
    assert done.exit_code == 0, done.output
    assert "4 combinations of group_size, lm_head; 4 trials at most" in done.output
    # 64 with a head of int8 loses 0.043 at most, but has 10,600 bytes; of int4 0.052
    assert "no trial holds every limit" in done.output.lower()
    assert "max_loss_increase: loss increase +0.0420, up to +0.0520, is over 0.05 by 0.0020" in done.output
    assert (project / "params.yaml").read_bytes() == before
    assert git(project, "status", "--porcelain") == status
    assert sorted(made(project)) == ["rtn 128", "rtn 64"], "each base is quantized once"
    assert not (project / "conf/profile/tiny-search.yaml").exists()

    done = CliRunner().invoke(
        main,
        ["--max-megabytes", "0.0101", "--max-loss-increase", "0.06", *settings],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    assert "4 of them are there already" in done.output and len(made(project)) == 2, "nothing runs for other limits"
    text = (project / "conf/profile/tiny-search.yaml").read_text()
    assert "# make repro PROFILE=tiny-search" in text and "the smallest of 4 trials" in text
    assert "int8: 0.0 MB, loss +0.0330" in text, "what the other head came to stands beside the head"
    compose(project, ["profile=tiny-search"], project.parent / "composed.yaml")
    found, base = read_params(project.parent / "composed.yaml"), read_params(project / "params.yaml")
    quantize = {**base["quantize"], "algorithm": "rtn", "group_size": 64, "average_bits": 0, "distill_steps": 0}
    assert found["quantize"] == quantize
    assert found["targets"]["cpu-int4"] == {**base["targets"]["cpu-int4"], "lm_head": "int4"}
    assert found["evaluate"] == base["evaluate"] and found["adapters"] == base["adapters"]
    page = (project / "report/search/tiny-search.html").read_text()
    assert page.count("<svg") == 1 and "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    record = json.loads((project / "report/search/tiny-search.json").read_text())
    assert len(record["trials"]) == 4 and record["chosen"]
    experiments = git(project, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    assert sorted(ref.rpartition("/")[2] for ref in experiments) == [f"tiny-search-00{n}" for n in (1, 2, 3, 4)]
    listed = git(project, "ls-tree", "-r", "--name-only", experiments[0])
    assert "results/quality/auto-opt/cpu-int4.json" in listed
    assert "results/quality/gate" not in listed, "no figure of other settings is in an experiment"


def test_an_interrupted_search_goes_on_where_it_was(project):
    (project.parent / "slow").touch()
    command = [sys.executable, "-m", "olivepress", "search", *LIMITS, "--trials", "2", "--set", "algorithm=rtn"]
    command += ["--set", "group_size=32,64", "--set", "lm_head=int8", "--jobs", "2"]
    child = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.STDOUT,
        # a shell has its background jobs ignore Ctrl-C, and what they start inherits that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads here
    )
    said = ""
    for line in child.stdout:
        said += line
        if "loss +" in line:  # one has ended; the slow one runs
            while not (project.parent / "done").exists() or len(made(project)) < 2:
                time.sleep(0.1)
            child.send_signal(signal.SIGINT)
    assert child.wait() == 130, said
    assert "interrupted; the next call begins with it" in said and "1 trials have ended and are kept" in said
    (project.parent / "slow").unlink()
    done = search("--trials", "2", "--set", "algorithm=rtn", "--set", "group_size=32,64", "--set", "lm_head=int8")
    assert done.exit_code == 0, done.output
    assert "1 of them are there already" in done.output
    assert sorted(made(project)) == ["rtn 32", "rtn 64", "rtn 64"]


def test_a_trial_that_fails_is_told_and_the_others_go_on_in_a_study_of_one_state_of_the_code(project):
    settings = ("--trials", "4", "--set", "algorithm=gptq,rtn", "--set", "group_size=32", "--set", "lm_head=int8")
    done = search(*settings)
    assert done.exit_code == 0, done.output
    assert "failed: ERROR: gptq takes no such weights" in done.output
    assert "gptq, group 32" in (project / "report/search/tiny-search.html").read_text()
    (project / "dvc.yaml").write_text(PIPELINE + "# another\n")
    done = search(*settings)
    assert done.exit_code == 1 and "was begun with other params, data, code or choices" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trials", "3"], "no limit: give --max-loss-increase"),
        (["--max-megabytes", "3"], "no budget: give --trials, --time-budget or both"),
        (["--max-megabytes", "3", "--time-budget", "soon"], "--time-budget soon: expected a time such as 90s"),
        (["--max-megabytes", "nan", "--trials", "1"], "nan is not a finite number"),
        (["--max-loss-increase", "inf", "--trials", "1"], "inf is not a finite number"),
        (["--max-megabytes", "3", "--time-budget", "0m"], "--time-budget 0m: expected a time"),
        (["--max-megabytes", "3", "--trials", "1", "--set", "algorithm"], "expected NAME=VALUE,VALUE"),
        (
            ["--max-megabytes", "3", "--trials", "1", "--name", "tiny"],
            "is the chosen profile, which the search begins with",
        ),
        (["--max-megabytes", "3", "--trials", "1", "--name", "smollm2"], "no search wrote it"),
        (["--max-megabytes", "3", "--trials", "1", "--name", "../x"], "'../x': expected letters"),
        (["--max-megabytes", "3", "--trials", "1", "--target", "gpu"], "no such target (there: cpu-int4)"),
        (
            ["--max-megabytes", "3", "--trials", "1", "--set", "calibration_data=nope.jsonl"],
            "calibration_data=nope.jsonl: no such file",
        ),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(project, arguments, said):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code in (1, 2) and said in done.output, done.output
    assert not (project.parent / "done").exists()


def test_a_time_that_is_too_short_for_a_trial(project):
    done = search("--time-budget", "0.001s")
    assert done.exit_code == 1 and "The time was too short for one." in done.output
    assert not (project.parent / "done").exists()


def test_params_edited_by_hand_are_refused(project):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("steps: 150", "steps: 30"))
    done = search("--trials", "1")
    assert done.exit_code == 1 and "params.yaml: finetune.steps: not as profile tiny has it" in done.output


def test_a_project_without_a_commit_is_refused(project):
    shutil.rmtree(project / ".git")
    git(project, "init", "-q")
    done = search("--trials", "1")
    assert done.exit_code == 1 and "no commit: an experiment of DVC is based on one" in done.output


# --- what is tried


def facts(**changes) -> Facts:
    params = read_params(ROOT / "params.yaml")
    params["quantize"] |= {"algorithm": "awq", "exact": True, "group_size": 32, "device": "cpu"}
    target = {"provider": "CPUExecutionProvider", "precision": "int4", "lm_head": "int8", "activations": "int8"}
    params["targets"] = {"cpu": target}
    own = params["quantize"]["calibration_data"]
    given = {
        "params": params,
        "target": "cpu",
        "widths": (256, 512),
        "parameters": 10**6,
        "calibration": (own, "b.jsonl"),
    }
    return Facts(**{**given, **changes})


def test_choices_are_the_schemas_that_fit_and_the_present_one_is_first():
    space = space_of(facts(), {})
    assert space.choices["algorithm"][0] == "awq" and {"rtn", "gptq", "kquant"} < set(space.choices["algorithm"])
    assert sorted(space.choices["group_size"]) == [16, 32, 64, 128] and space.choices["group_size"][0] == 32
    assert sorted(space_of(facts(widths=(576, 1536)), {}).choices["group_size"]) == [16, 32, 64]
    assert space.choices["exact"] == [True, False]
    large = facts(parameters=10**9)
    large.params["quantize"]["exact"] = False
    assert space_of(large, {}).choices["exact"] == [False], "AutoAWQ's bytes take minutes a layer"
    assert {"algorithm", "exact", "group_size", "calibration_data", "lm_head"} <= {setting.name for setting in known()}


def test_mixed_precision_is_searched_where_it_is_asked_for():
    """Averages are numbers, and AutoAWQ's own bytes have none; a head is mixed with its embedding, in large models."""
    assert space_of(facts(), {}).choices["average_bits"] == [0]
    small, large = (space_of(facts(parameters=count), {}) for count in (10**6, 10**8))
    assert "mixed" not in small.choices["lm_head"] + small.choices["embedding"]
    pairs = {(each["lm_head"], each["embedding"]) for each in large.combinations(seed=0)}
    assert ("mixed", "mixed") in pairs
    assert not {pair for pair in pairs if pair.count("mixed") == 1}
    narrow = {"algorithm": ["awq"], "average_bits": ["0", "4.8"], "lm_head": ["int8"], "embedding": ["int8"]}
    found = {short(each) for each in space_of(facts(), {**narrow, "group_size": ["32"]}).combinations(seed=0)}
    mixed = {name for name in found if "average" in name}
    assert mixed
    assert all(name.startswith("awq, group 32, average 4.8 bits") for name in mixed)
    assert any(name.startswith("awq exact") for name in found - mixed)
    with pytest.raises(PressError, match="average_bits=many: expected a number"):
        space_of(facts(), {"average_bits": ["many"]})


def test_distillation_is_searched_where_it_is_asked_for():
    """In whole steps; with it calibration text counts for algorithms, too, that look at weights alone."""
    assert space_of(facts(), {}).choices["distill_steps"] == [0]
    asked = {"algorithm": ["rtn"], "distill_steps": ["0", "64"], "group_size": ["32"], "lm_head": ["int8"]}
    space = space_of(facts(calibration=("data/a.jsonl", "data/b.jsonl")), asked)
    found = {short(each) for each in space.combinations(seed=0)}
    distilled = {name for name in found if "64 steps of distillation" in name}
    assert {name.split(", ")[3] for name in distilled} >= {"a", "b"}
    assert len({name for name in found - distilled if "embedding int8" in name}) == 1
    with pytest.raises(PressError, match=r"distill_steps=1\.5: expected a whole number"):
        space_of(facts(), {"distill_steps": ["1.5"]})


def test_combinations_that_make_the_same_are_one():
    space = space_of(
        facts(), {"group_size": ["32"], "lm_head": ["int8"], "algorithm": ["awq", "rtn", "gptq", "kquant"]}
    )
    found = [short(settings) for settings in space.combinations(seed=0)]
    assert len(found) == len(set(found)), "a setting that changes nothing is not told"
    told = [text for text in found if "embedding" not in text or text.endswith("embedding float")]
    assert len(told) == 4 + 2 + 1 + 1, "awq by exact and calibration, gptq by calibration, rtn, kquant"
    assert space.combinations(0)[0] == space.present
    assert space.combinations(0) == space.combinations(0) != space.combinations(1)


def test_combinations_that_the_schema_refuses_are_left_out():
    given = facts()
    given.params["quantize"] |= {"bits": 8, "algorithm": "rtn"}
    found = space_of(given, {}).combinations(0)
    assert found and all(settings["algorithm"] != "awq" for settings in found)


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ({"lora_rank": ["8"]}, "--set lora_rank: no such setting (there: algorithm, "),
        ({"algorithm": ["awq", "gguf"]}, "--set algorithm=gguf: expected of awq, "),
        ({"group_size": ["100"]}, "--set group_size=100: expected of 32, "),
        ({"exact": ["maybe"]}, "--set exact=maybe: expected of true, false"),
    ],
)
def test_settings_and_values_that_there_are_none_of(only, said):
    with pytest.raises(PressError) as caught:
        space_of(facts(), only)
    assert said in caught.value.message


def test_words_of_the_command_line():
    assert [seconds_of(text) for text in ("90s", "30m", "1.5h", "2", None)] == [90, 1800, 5400, 120, None]
    assert only_of(["quantize.algorithm=awq, rtn", "lm_head=int8"]) == {
        "algorithm": ["awq", "rtn"],
        "lm_head": ["int8"],
    }


def told(number: int, settings: dict) -> Measured:
    """What a trial might come to: larger groups are smaller and lose more, awq loses least."""
    loss = settings["group_size"] / 1000 + 0.05 * (settings["algorithm"] != "awq")
    return Measured(
        number, settings, f"s-{number}", loss, loss - 0.01, loss + 0.01, 10**6 - settings["group_size"], "", 1
    )


def tried(folder: Path, trials: int, **changes) -> list[str]:
    """The settings of the next trials of a study in ``folder``, each told what it came to."""
    given = {"seed": 0, "fingerprint": "", **changes}
    study = Study(folder, "s", space_of(facts(), {}), Limits(max_loss_increase=0.06), **given)
    study.begin(whole=False)
    found = []
    for _ in range(trials):
        if asked := study.ask():
            trial, number, settings = asked
            study.tell(trial, told(number, settings))
            found.append(short(settings))
    return found


def test_no_settings_are_tried_twice_and_a_search_goes_on_from_its_journal(tmp_path):
    first = tried(tmp_path / "a", 15)
    assert first == tried(tmp_path / "b", 15), "the seed repeats the order"
    assert first[0].startswith("awq exact, group 32, ") and len(set(first)) == 15
    more = tried(tmp_path / "a", 15)
    assert not set(first) & set(more), "what an earlier call has tried is not tried again"
    with pytest.raises(PressError, match="was begun with other params, data, code or choices"):
        tried(tmp_path / "a", 1, fingerprint="other")


def test_a_small_space_is_tried_whole(tmp_path):
    study = Study(
        tmp_path, "s", space_of(facts(), {"algorithm": ["rtn"], "lm_head": ["int8"]}), Limits(), seed=0, fingerprint=""
    )
    total = len(study.combinations)
    study.begin(whole=True)
    found = []
    while asked := study.ask():
        trial, number, settings = asked
        study.fail(trial, "it does not fit") if number == 2 else study.tell(trial, told(number, settings))
        found.append(settings)
    assert len(found) == total and all(settings in found for settings in study.combinations)
    assert [each.number for each in study.measured] == [1, *range(3, total + 1)]
    assert [(number, why) for number, _, why in study.failed] == [(2, "it does not fit")]


def test_a_trial_of_a_process_that_was_killed_is_the_next_one(tmp_path):
    space = space_of(facts(), {})
    study = Study(tmp_path, "s", space, Limits(), seed=0, fingerprint="")
    study.begin(whole=False)
    _, number, settings = study.ask()  # and then the process is gone
    again = Study(tmp_path, "s", space, Limits(), seed=0, fingerprint="")
    again.begin(whole=False)
    assert again.ask()[1:] == (number, settings)


def test_a_space_is_tried_whole_where_the_budget_has_room():
    assert Budget(20, None).whole(20) and not Budget(20, None).whole(21)
    assert Budget(None, 60).whole(16) and not Budget(None, 60).whole(17)
    assert [Budget(20, 60).total(30), Budget(None, 60).total(30)] == [20, 30]


# --- what is chosen


def candidate(number: int, loss: float, megabytes: float, speed: float, spread: float = 0.01) -> Candidate:
    trial = Measured(number, {}, f"s-{number}", loss, loss - spread, loss + spread, round(megabytes * 1e6), "", 1.0)
    return Candidate(trial, Speed(speed, speed - 10, speed + 10))


SMALL, MIDDLE, FAST, POOR = (
    candidate(1, 0.09, 80, 90),
    candidate(2, 0.03, 90, 100),
    candidate(3, 0.02, 120, 150),
    candidate(4, 0.10, 130, 80),
)
ALL = [SMALL, MIDDLE, FAST, POOR]


@pytest.mark.parametrize(
    ("limits", "prefer", "number"),
    [
        (Limits(max_loss_increase=0.05), "smallest", 2),
        (Limits(max_loss_increase=0.05), "fastest", 3),
        (Limits(max_loss_increase=0.2), "smallest", 1),
        (Limits(max_loss_increase=0.2), "best", 3),
        (Limits(max_megabytes=100, min_tokens_per_second=85), "smallest", 2),
        (Limits(max_loss_increase=0.04), "smallest", 2),
        (Limits(max_loss_increase=0.039), "smallest", 3),
        (Limits(max_loss_increase=0.029), "smallest", None),
    ],
)
def test_the_choice_holds_every_limit_by_the_whole_interval(limits, prefer, number):
    found = choose(ALL, limits, prefer)
    assert (found.chosen and found.chosen.trial.number) == number
    assert (found.nearest is None) == (number is not None)


def test_the_nearest_is_above_its_limits_by_least_and_says_so():
    limits = Limits(max_loss_increase=0.025, max_megabytes=100, min_tokens_per_second=95)
    nearest = choose(ALL, limits, "smallest").nearest
    assert nearest is FAST
    assert [miss.name for miss in misses(FAST, limits)] == ["max_loss_increase", "max_megabytes"]
    assert [miss.text for miss in misses(FAST, limits)] == [
        "loss increase +0.0200, up to +0.0300, is over 0.025 by 0.0050 "
        "(the figure itself holds: more rows, --rows, make the interval narrower)",
        "120.0 MB is over 100 by 20.0",
    ]
    assert misses(MIDDLE, limits)[-1].text == "100 tokens a second, 90 in the slowest round, is below 95 by 5"


def test_a_speed_that_was_not_measured_holds_no_limit():
    unknown = Candidate(SMALL.trial)
    assert choose([unknown], Limits(min_tokens_per_second=1), "smallest").chosen is None
    assert choose([unknown], Limits(max_megabytes=90), "fastest").chosen is unknown


def test_the_front_is_what_nothing_beats_in_all_three():
    assert pareto(ALL) == [SMALL, MIDDLE, FAST]
    assert pareto([SMALL, SMALL]) == [SMALL, SMALL]
    assert yaml.safe_load(json.dumps(SMALL.trial.as_json()))["bytes"] == 80_000_000
