"""Stages side by side, on a DVC project of a few lines: which run at a time, what is left of those beside a failure."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from processes import begin, folder_of

from olivepress.tools import dvc_start, room
from olivepress.tools.run import Outcome, repro
from olivepress.tools.screen import Lines
from olivepress.tools.side_by_side import SideBySide
from olivepress.tools.warm_stages import WarmStages

ROOT = Path(__file__).parents[2]
# Writes when it began and ended; --meet waits for another's begin, --do says how it goes on.
STAGE = """
import os, sys, time
from pathlib import Path
import click
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.core.stage import Out, stage

@stage
@click.option("--out", type=Out, required=True)
@click.option("--meet", multiple=True)
@click.option("--do", default="")
def main(out, meet, do):
    began = time.time()
    Path(f"{out}.began").touch()
    print("this is", out.stem)
    with atomic_output(out) as scratch:
        while not all(Path(f"{name}.out.began").exists() for name in meet):
            if time.time() > began + 30:
                raise PressError(f"{meet}: not seen.")
            time.sleep(0.02)
        if do == "refuse":
            raise PressError("data.jsonl:3: no prompt.")
        time.sleep({"wait": 60, "long": 4}.get(do, 0.3))
        scratch.write_text(out.stem)
    Path(f"{out}.nice").write_text(str(os.nice(0)))
    Path(f"{out}.when").write_text(f"{began} {time.time()}")

main()
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "a_stage.py").write_text(STAGE)

    def stages(self, **stages: dict[str, Any]) -> None:
        """Write dvc.yaml: of each stage what it needs, what it meets (stages that run beside it), do and meta."""
        found = {}
        for name, says in stages.items():
            options = [f"--meet {other}" for other in says.get("meets", [])]
            options += [f"--do {do}" for do in [says.get("do")] if do]
            found[name] = {
                "cmd": " ".join(["python a_stage.py --out", f"{name}.out --cost cost/{name}.json", *options]),
                "deps": [f"{other}.out" for other in says.get("needs", [])],
                "outs": [f"{name}.out"],
                **{key: says[key] for key in ("meta",) if key in says},
            }
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": found}, sort_keys=False))

    def evaluations(self, on_cpu: str, elsewhere: str) -> tuple[dict[str, Any], ...]:
        """What stages say that evaluate a target for a CPU, and one for another device."""
        params = {name: {"device": "cpu"} for name in ("quantize", "finetune", "evaluate")}
        providers = {on_cpu: "CPUExecutionProvider", elsewhere: "DmlExecutionProvider"}
        params["targets"] = {target: {"provider": provider} for target, provider in providers.items()}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))
        return tuple({"meta": {"evaluates": target}} for target in providers)

    def spans(self) -> dict[str, tuple[float, float]]:
        """When each stage began and ended."""
        found = {}
        for path in self.folder.glob("*.out.when"):
            began, ended = path.read_text().split()
            found[path.name.partition(".")[0]] = float(began), float(ended)
        return found

    def locked(self) -> dict[str, Any]:
        return yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]


@pytest.fixture
def project(dvc_folder: Path) -> Project:
    return Project(dvc_folder)


def run(*arguments: str, jobs: int = 3) -> Outcome:
    return repro(arguments, Lines(), jobs)


def beside(spans: dict[str, tuple[float, float]]) -> set[frozenset[str]]:
    """The pairs that ran at the same time."""
    return {
        frozenset((a, b)) for a, b in combinations(spans, 2) if spans[a][0] < spans[b][1] and spans[b][0] < spans[a][1]
    }


def test_stages_that_do_not_need_one_another_run_at_a_time_and_others_after(project: Project) -> None:
    project.stages(
        first={},
        left={"needs": ["first"], "meets": ["right"]},
        right={"needs": ["first"], "meets": ["left"]},
        last={"needs": ["left", "right"]},
    )
    outcome = run()
    assert (outcome.status, list(outcome.failed)) == (0, [])
    assert set(outcome.ran) == {"first", "left", "right", "last"}
    assert beside(project.spans()) == {frozenset(("left", "right"))}
    logs = {path.stem: path.read_text() for path in (project.folder / "logs").iterdir()}
    assert logs == {name: f"this is {name}\n" for name in ("first", "left", "right", "last")}


def test_no_more_than_there_is_room_for(project: Project) -> None:
    project.stages(a={}, b={}, c={}, d={})
    assert run(jobs=2).status == 0
    spans = project.spans()
    assert len(spans) == 4
    for began, _ in spans.values():
        assert sum(other <= began < ended for other, ended in spans.values()) <= 2


def test_what_measures_speed_has_the_machine_for_itself(project: Project) -> None:
    project.stages(
        quick={"meta": {"alone": True}}, a={"meets": ["b"]}, b={"meets": ["a"]}, again={"meta": {"alone": True}}
    )
    assert run().status == 0
    assert beside(project.spans()) == {frozenset("ab")}


def test_of_those_that_take_every_processor_one_runs_at_a_time_and_gives_way(project: Project) -> None:
    heavy, other = project.evaluations("here", "there")
    project.stages(a={**heavy, "meets": ["c"]}, b=heavy, c={**other, "meets": ["a"]}, later={"needs": ["a"]})
    assert run().status == 0
    assert frozenset("ab") not in beside(project.spans())
    assert frozenset("ac") in beside(project.spans())
    nice = {path.name.partition(".")[0]: int(path.read_text()) for path in project.folder.glob("*.out.nice")}
    assert nice == {"a": 10, "b": 10, "c": 0, "later": 0}


def test_what_more_of_those_need_starts_first(project: Project) -> None:
    heavy, other = project.evaluations("here", "there")
    project.stages(
        a={},
        b={},
        c={},
        for_another_device={**other, "needs": ["a"]},
        for_one={},
        for_two={},
        base={**heavy, "needs": ["for_two"]},
        adapted={**heavy, "needs": ["base", "for_one"]},
    )
    assert run(jobs=2).status == 0
    began = {name: span[0] for name, span in project.spans().items()}
    first = min(began[name] for name in "abc")
    assert began["for_two"] < first
    assert began["for_one"] < min(began["b"], began["c"])


def test_dvc_lock_and_the_cache_are_those_of_one_at_a_time(project: Project, tmp_path_factory) -> None:
    project.stages(
        first={}, left={"needs": ["first"], "do": "long"}, right={"needs": ["first"]}, last={"needs": ["left", "right"]}
    )
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(project.folder, other, dirs_exist_ok=True)
    assert run().status == 0
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=other, check=True)
    assert (project.folder / "dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()

    def objects(folder: Path) -> set[str]:
        return {path.name for path in (folder / ".dvc/cache/files").rglob("*") if path.is_file()}

    assert objects(project.folder) == objects(other)
    again = run()
    assert set(again.unchanged) == {"first", "left", "right", "last"}
    for name in ("left", "right"):
        (project.folder / f"{name}.out").unlink()
    again = run()
    assert (set(again.cached), set(again.unchanged)) == ({"left", "right"}, {"first", "last"})


def test_what_runs_beside_a_failure_ends_and_is_kept(project: Project, capfd: pytest.CaptureFixture) -> None:
    project.stages(
        bad={"do": "refuse", "meets": ["good"]},
        good={"meets": ["bad"], "do": "long"},
        later={"needs": ["good"]},
        after={"needs": ["bad"]},
    )
    outcome = run()
    assert outcome.status == 255
    assert (list(outcome.failed), list(outcome.ran)) == (["bad"], ["good"])
    assert set(project.locked()) == {"good"}
    assert not (project.folder / "later.out").exists()
    shown = capfd.readouterr().out
    assert "bad: data.jsonl:3: no prompt." in shown
    assert "good.out" not in shown
    project.stages(bad={}, good={"meets": ["bad"], "do": "long"}, later={"needs": ["good"]}, after={"needs": ["bad"]})
    outcome = run()
    assert (outcome.status, outcome.unchanged) == (0, ["good"])


def test_with_keep_going_what_does_not_need_it_runs_too(project: Project) -> None:
    project.stages(bad={"do": "refuse"}, good={}, later={"needs": ["good"]}, after={"needs": ["bad"]})
    outcome = run("--keep-going")
    assert outcome.status == 255
    assert (list(outcome.failed), set(outcome.ran)) == (["bad"], {"good", "later"})


def test_two_failures_are_both_told(project: Project, capfd: pytest.CaptureFixture) -> None:
    project.stages(a={"do": "refuse", "meets": ["b"]}, b={"do": "refuse", "meets": ["a"]})
    assert set(run().failed) == {"a", "b"}
    shown = capfd.readouterr().out
    assert all(f"{name}: data.jsonl:3: no prompt." in shown for name in "ab")


def test_options_of_dvc_are_taken(project: Project) -> None:
    project.stages(first={}, second={"needs": ["first"]}, other={})
    assert set(run().ran) == {"first", "second", "other"}
    assert set(run("--force", "second").ran) == {"first", "second"}
    assert set(run("--force", "--single-item", "second").ran) == {"second"}
    project.stages(first={"do": "again"}, second={"needs": ["first"]}, other={})  # other words, the same output
    assert set(run().ran) == {"first"}
    project.stages(first={}, second={"needs": ["first"]}, other={})
    assert set(run("--force-downstream").ran) == {"first", "second"}


RUN = "from olivepress.tools.run import *; sys.exit(repro([], screen().__enter__(), 3).status)"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_all_that_runs_and_brings_back_what_was_there(project: Project, number: int, status: int) -> None:
    project.stages(a={}, b={}, c={"needs": ["a"]})
    assert run().status == 0
    for path in project.folder.glob("*.began"):
        path.unlink()
    project.stages(a={"do": "wait"}, b={"do": "wait"}, c={"needs": ["a"]})
    process = begin([sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while not all((project.folder / f"{name}.out.began").exists() for name in "ab"):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == status, text
    assert text.count("interrupted after") == 2, text
    assert not (project.folder / "c.out.began").exists()
    assert [(project.folder / f"{name}.out").read_text() for name in "abc"] == ["a", "b", "c"]
    assert not list(project.folder.glob("*.partial"))
    held = project.folder / ".dvc/tmp/rwlock"
    assert not held.is_file() or not any(json.loads(held.read_text()).values())
    project.stages(a={}, b={}, c={"needs": ["a"]})
    assert set(run().unchanged) == {"a", "b", "c"}


GPUS = (SimpleNamespace(free=24 * 2**30),)


@pytest.mark.parametrize(
    ("weights", "cpus", "memory", "on_gpu", "expected"),
    [
        (0, 2, 24 * 2**30, False, 2),  # the tiny model on two processors
        (270_000_000, 16, 24 * 2**30, False, 4),
        (7_600_000_000, 16, 24 * 2**30, False, 1),  # 3.8 billion parameters on a laptop: one at a time
        (7_600_000_000, 16, 128 * 2**30, False, 4),
        (7_600_000_000, 16, 128 * 2**30, True, 1),  # and on a card of 24 GiB
        (270_000_000, 16, 128 * 2**30, True, 4),
        (70_000_000_000, 64, 64 * 2**30, True, 1),  # never none
    ],
)
def test_room_is_bounded_by_processors_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: int, cpus: int, memory: int, on_gpu: bool, expected: int
) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: cpus)
    monkeypatch.setattr(room, "total_memory", lambda: memory)
    monkeypatch.setattr(room, "gpus", lambda: GPUS)
    monkeypatch.setattr(room.checkpoint, "weight_bytes", lambda folder: weights)
    assert room.room(tmp_path, on_gpu=on_gpu) == 1  # there is no base model yet
    (tmp_path / "models/base").mkdir(parents=True)
    (tmp_path / "models/base/config.json").write_text("{}")
    assert room.room(tmp_path, on_gpu=on_gpu) == expected


# A stage of a name that is started warm; --do says how it goes on.
WARM = """
import os, sys, time
from pathlib import Path
before = set(sys.modules)
import click
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.core.stage import Out, stage

@stage
@click.option("--out", type=Out, required=True)
@click.option("--do", default="")
def main(out, do):
    print("printed")
    print("to stderr", file=sys.stderr)
    with atomic_output(out) as scratch:
        Path(f"{out}.began").touch()
        if do == "refuse":
            raise PressError("data.jsonl:3: no prompt.")
        if do == "crash":
            raise RuntimeError("boom")
        if do == "die":
            os.kill(os.getpid(), 9)
        if do == "wait":
            time.sleep(60)
        scratch.write_text(repr({
            "torch": "torch" in before, "argv": sys.argv[1:], "stage": os.environ["DVC_STAGE"], "cwd": os.getcwd(),
            "name": __name__, "devices": os.environ.get("CUDA_VISIBLE_DEVICES"), "bytecode": sys.dont_write_bytecode,
        }))

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def warm(project: Project) -> Project:
    (project.folder / "stages").mkdir()
    shutil.copy(ROOT / "stages/__init__.py", project.folder / "stages")
    for name in ("prepare", "quantize", "gate"):
        (project.folder / f"stages/{name}.py").write_text(WARM)
    return project


def warm_stages(project: Project, **stages: str) -> None:
    """Write dvc.yaml: stages.NAME with --do, all side by side."""
    found = {
        name: {"cmd": f"python -m stages.{name} --out {name}.out --do '{do}'", "outs": [f"{name}.out"]}
        for name, do in stages.items()
    }
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": found}, sort_keys=False))


def test_stages_that_load_pytorch_find_it_loaded_and_are_processes_of_their_own(warm: Project, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    warm_stages(warm, prepare="", quantize="", gate="")
    assert run().status == 0
    for name, loaded in {"prepare": True, "quantize": True, "gate": False}.items():
        assert eval((warm.folder / f"{name}.out").read_text()) == {
            "torch": loaded,
            "argv": ["--out", f"{name}.out", "--do", ""],
            "stage": name,
            "cwd": str(warm.folder),
            "name": "__main__",
            "devices": "0",
            "bytecode": False,
        }
        assert sorted((warm.folder / f"logs/{name}.log").read_text().splitlines()) == ["printed", "to stderr"]


def test_without_a_server_they_are_started_as_others_are(warm: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    long = warm.folder / ("d" * 120)  # more than a socket's path may have
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    warm_stages(warm, prepare="", quantize="")
    outcome = run()
    assert (outcome.status, set(outcome.ran)) == (0, {"prepare", "quantize"})
    assert not eval((warm.folder / "prepare.out").read_text())["torch"]


def test_pytorch_is_loaded_at_once_where_nothing_was_made_yet(project: Project, monkeypatch) -> None:
    started = []

    def start(self: WarmStages) -> None:
        started.append(self)

    monkeypatch.setattr(WarmStages, "start", start)
    monkeypatch.setattr(SideBySide, "install", lambda self: None)
    assert dvc_start._side_by_side(2) is not None
    assert not started, "no params: no pipeline of ours"
    project.evaluations("here", "there")
    warm = dvc_start._side_by_side(2)
    assert started == [warm]
    (project.folder / "models").mkdir()
    dvc_start._side_by_side(2)
    assert started == [warm], "perhaps nothing is to be made"


def test_what_was_loaded_for_nothing_ends_with_the_run() -> None:
    """By itself it would end when this process does, and whoever reads DVC's output waits for it."""
    warm = WarmStages()
    warm.start()
    server = psutil.Process(forkserver._forkserver._forkserver_pid)
    assert server.status() != psutil.STATUS_ZOMBIE
    warm.end()
    deadline = time.monotonic() + 30
    while server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_they_fail_as_others_do(warm: Project, capfd: pytest.CaptureFixture) -> None:
    warm_stages(warm, prepare="", quantize="")
    assert run().status == 0
    kept = (warm.folder / "prepare.out").read_text()
    warm_stages(warm, prepare="refuse", quantize="crash")
    outcome = run("--keep-going")
    assert (outcome.status, set(outcome.failed)) == (255, {"prepare", "quantize"})
    shown = capfd.readouterr().out
    assert "prepare: data.jsonl:3: no prompt." in shown and "quantize: RuntimeError: boom" in shown
    assert "Traceback" in (warm.folder / "logs/quantize.log").read_text()
    assert (warm.folder / "prepare.out").read_text() == kept
    warm_stages(warm, prepare="die", quantize="")
    assert set(run().failed) == {"prepare"}
    assert "prepare: killed by signal 9, as the system does where memory runs out" in capfd.readouterr().out
    assert (warm.folder / "prepare.out").read_text() == kept, "brought back by the runner"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_they_end_with_dvc_and_bring_back_what_was_there(warm: Project, number: int, status: int) -> None:
    warm_stages(warm, prepare="")
    assert run().status == 0
    kept = (warm.folder / "prepare.out").read_text()
    (warm.folder / "prepare.out.began").unlink()
    warm_stages(warm, prepare="wait")
    command = [sys.executable, "-m", "olivepress.tools.dvc_start", "--jobs", "2", "repro"]
    if number == signal.SIGINT:
        command = [sys.executable, "-c", RUN]
    with (warm.folder / "said.txt").open("wb") as said:
        process = begin(command, stdout=said, stderr=said)
    deadline = time.monotonic() + 60
    while not (warm.folder / "prepare.out.began").exists():
        assert process.poll() is None, (warm.folder / "said.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == status
    while alive := [
        pid for pid in map(str, psutil.pids()) if folder_of(pid) == warm.folder and pid != str(os.getpid())
    ]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)
    assert (warm.folder / "prepare.out").read_text() == kept
    assert not list(warm.folder.glob("*.partial"))


@pytest.mark.slow
def test_a_signal_while_pytorch_is_still_loaded_ends_the_stage_too(warm: Project) -> None:
    warm_stages(warm, prepare="wait")
    with (warm.folder / "said.txt").open("wb") as said:
        process = begin([sys.executable, "-c", RUN], stdout=said, stderr=said)
    deadline = time.monotonic() + 60
    while "prepare: running" not in (warm.folder / "said.txt").read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(50) == 130, "the stage itself waits for a minute"
    assert "interrupted after" in (warm.folder / "said.txt").read_text()
    assert not (warm.folder / "prepare.out").exists()
