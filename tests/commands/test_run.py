"""`olivepress repro` on a DVC project of a few lines: what is shown, logged and left behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
import yaml
from processes import begin, folder_of

from olivepress.core import report
from olivepress.tools.interrupted import Before
from olivepress.tools.run import Outcome, Stages, repro
from olivepress.tools.screen import Bars, Lines, duration

ROOT = Path(__file__).parents[2]
SHELLS = ["/bin/bash", "/bin/sh"]  # DVC runs stages by $SHELL: bash makes way for a command, Debian's sh waits for it
# --do says how the stage goes on
STAGE = """
import os, sys, time
from pathlib import Path
import click
from olivepress.core import report
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output
from olivepress.core.stage import Out, stage

@stage
@click.option("--do", default="")
@click.option("--out", type=Out, required=True)
def main(do, out):
    print("noise of a library")
    os.system("echo noise of a child >&2")
    report.note("rows: 3 were cut")
    with atomic_output(out) as scratch:
        scratch.write_text("half")
        for _ in report.progress(range(5), "step"):
            pass
        if do == "wait":
            Path("waiting").touch()
            time.sleep(60)
        if do == "refuse":
            raise PressError("data.jsonl:3: no prompt.")
        if do == "crash":
            raise RuntimeError("boom")
        if do == "die":
            os.kill(os.getpid(), 9)
        scratch.write_text("whole")
    return {"tokens_per_second": 3.5}

main()
"""


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "a_stage.py").write_text(STAGE)
        (folder / "data.txt").write_text("one")

    def stages(self, **stages: str) -> None:
        """Write dvc.yaml: each stage runs a_stage.py with --do, and depends on data.txt and the one before."""
        found, before = {}, []
        for name, do in stages.items():
            cmd = do if do.startswith("python") else f"python a_stage.py --out {name}.out --cost cost/{name}.json"
            cmd += f" --do {do}" if do and not do.startswith("python") else ""
            found[name] = {"cmd": cmd, "deps": ["data.txt", *before], "outs": [f"{name}.out"]}
            before = [f"{name}.out"]
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": found}, sort_keys=False))

    def log(self, stage: str) -> str:
        return (self.folder / report.log_path(stage)).read_text()


@pytest.fixture
def project(dvc_folder: Path) -> Project:
    return Project(dvc_folder)


@pytest.fixture(scope="session")
def run_once(empty_project: Path, once) -> Path:
    """The project after a run of two stages, first and slow. Copy it, do not change it."""

    def make(folder: Path) -> None:
        shutil.copytree(empty_project, folder, dirs_exist_ok=True)
        Project(folder).stages(first="", slow="")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=folder, env=environment, check=True)

    return once("first-and-slow", make)


@pytest.fixture
def after_a_run(project: Project, run_once: Path) -> Project:
    """A copy of it, and the working folder."""
    shutil.copytree(run_once, project.folder, dirs_exist_ok=True)
    return project


@pytest.fixture(params=[1, 2], ids=["one-at-a-time", "side-by-side"])
def jobs(request: pytest.FixtureRequest) -> int:
    return request.param


def run(capfd: pytest.CaptureFixture, *arguments: str, jobs: int = 1) -> tuple[Outcome, list[str]]:
    outcome = repro(arguments, Lines(), jobs)
    text = capfd.readouterr().out
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    return outcome, [re.sub(r"[\d.]+ s$", "0 s", line) for line in text.splitlines()]


def test_a_line_at_each_end_of_a_stage_and_noise_in_its_log(project: Project, capfd, jobs: int) -> None:
    project.stages(first="", second="")
    outcome, lines = run(capfd, jobs=jobs)
    assert lines == [
        "[1/2] first: running",
        "  rows: 3 were cut",
        "[1/2] first: done in 0 s",
        "[2/2] second: running",
        "  rows: 3 were cut",
        "[2/2] second: done in 0 s",
    ]
    assert (outcome.status, list(outcome.ran), outcome.failed) == (0, ["first", "second"], {})
    assert sorted(project.log("first").split("\n")) == ["", "noise of a child", "noise of a library"]
    outcome, lines = run(capfd, jobs=jobs)
    assert lines == ["[1/2] first: unchanged", "[2/2] second: unchanged"]
    assert outcome.unchanged == ["first", "second"]
    (project.folder / "first.out").unlink()
    outcome, lines = run(capfd, "first", jobs=jobs)
    assert lines == ["[1/1] first: from the cache"]
    assert outcome.cached == ["first"]


DIED = "killed by signal 9, as the system does where memory runs out"


@pytest.mark.parametrize(
    ("do", "why"),
    [
        ("refuse", "data.jsonl:3: no prompt."),
        ("crash", "RuntimeError: boom"),
        ("die", DIED),
        ("unknown --grop 3", "No such option '--grop'."),
    ],
)
def test_a_stage_that_fails_is_named_with_its_error_and_its_log(project, capfd, jobs: int, do: str, why: str) -> None:
    project.stages(first="", second=do, third="")
    outcome, lines = run(capfd, jobs=jobs)
    assert outcome.status == 255  # DVC's
    assert list(outcome.failed) == ["second"]
    assert "[2/3] second: failed after 0 s" in lines
    assert any(line.startswith(f"second: {why}") for line in lines)
    assert lines[-1] == "Its log: logs/second.log"
    assert not any("third" in line for line in lines)
    assert ("Traceback" in project.log("second")) == (do == "crash")
    assert not (project.folder / "second.out").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_killed_stage_is_named_whatever_shell_dvc_starts_it_by(
    project, capfd, monkeypatch, jobs: int, shell: str
) -> None:
    monkeypatch.setenv("SHELL", shell)
    project.stages(first="die")
    assert f"first: {DIED}" in run(capfd, jobs=jobs)[1]


def test_what_keep_going_left_out_is_not_called_done(project: Project, capfd, jobs: int) -> None:
    project.stages(first="refuse", second="")
    stages = yaml.safe_load((project.folder / "dvc.yaml").read_text())
    stages["stages"]["apart"] = {"cmd": "true", "outs": ["apart.out"]}
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    outcome, lines = run(capfd, "--keep-going", jobs=jobs)
    assert outcome.status == 255
    assert set(outcome.failed) == {"first", "apart"}
    assert not outcome.ran
    assert "first: data.jsonl:3: no prompt." in lines
    assert any("second" in line and "skipped" in line for line in lines)


def test_another_programs_output_goes_to_the_log_too(project: Project, capfd, jobs: int) -> None:
    project.stages(other='python -c \'print("hello"); open("other.out", "w").write("x")\'')
    _, lines = run(capfd, jobs=jobs)
    assert lines == ["[1/1] other: running", "[1/1] other: done in 0 s"]
    assert project.log("other") == "hello\n"


def test_stages_keep_bytecode_whatever_the_terminal_does(project: Project, capfd, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    project.stages(only="python -c \"import sys; open('only.out', 'w').write(str(sys.dont_write_bytecode))\"")
    assert run(capfd)[0].status == 0
    assert (project.folder / "only.out").read_text() == "False"


def test_plain_dvc_repro_shows_notes_and_errors_and_logs_the_noise(project: Project) -> None:
    project.stages(first="", second="crash")
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "rows: 3 were cut" in done.stderr
    assert "RuntimeError: boom" in done.stderr
    assert "noise" not in done.stdout + done.stderr
    assert "noise of a library" in project.log("first")
    project.stages(first="refuse")
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True, check=False)
    assert done.stderr.count("Error: data.jsonl:3: no prompt.") == 1


def test_by_hand_everything_is_printed_as_it_comes(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "a_stage.py", "--out", "x"], capture_output=True, text=True, check=False, cwd=project.folder
    )
    assert done.stdout == "noise of a library\n"
    assert done.stderr.splitlines() == ["noise of a child", "rows: 3 were cut"]
    assert not (project.folder / "logs").exists()


def started(project: Project, command: list[str]) -> subprocess.Popen:
    """The second run of a project after a run: its stage slow, waiting in its middle."""
    project.stages(first="", slow="wait")
    process = begin(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while not (project.folder / "waiting").exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def left_clean(project: Project) -> None:
    """The stage has ended, its earlier output is back, and no lock is held."""
    found = subprocess.run(["pgrep", "-f", f"{project.folder}|a_stage.py"], capture_output=True, text=True, check=False)
    alive = [pid for pid in found.stdout.split() if folder_of(pid) == project.folder]
    assert not alive
    assert (project.folder / "slow.out").read_text() == "whole"
    assert not list(project.folder.glob("*.partial"))
    lock = project.folder / ".dvc/tmp/rwlock"
    assert not lock.is_file() or json.loads(lock.read_text()) in ({}, {"read": {}, "write": {}})


RUN = "from olivepress.tools.run import *; sys.exit(repro([], screen().__enter__(), {jobs}).status)"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_stage_with_dvc_and_leaves_no_lock(after_a_run: Project, jobs, number, status: int) -> None:
    process = started(after_a_run, [sys.executable, "-c", RUN.format(jobs=jobs)])
    process.send_signal(number)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == status, text
    assert "[2/2] slow: interrupted" in text
    left_clean(after_a_run)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a stage that DVC died")
@pytest.mark.parametrize("shell", SHELLS)
def test_sigterm_to_plain_dvc_ends_the_stage_too(after_a_run: Project, monkeypatch, shell: str) -> None:
    monkeypatch.setenv("SHELL", shell)
    process = started(after_a_run, [sys.executable, "-m", "dvc", "repro"])
    process.send_signal(signal.SIGTERM)
    text = process.communicate(timeout=60)[0]  # the stage holds the pipe until it ends
    assert process.returncode == -signal.SIGTERM
    assert "Terminated: nothing was written" in text
    assert "Not brought back" not in text
    left_clean(after_a_run)
    after_a_run.stages(first="", slow="")
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True, check=True)
    assert "WARNING" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Linux shows a process's mask")
@pytest.mark.parametrize("shell", SHELLS)
def test_what_would_end_a_stage_waits_from_its_first_moment(
    project: Project, capfd, monkeypatch, jobs: int, shell: str
) -> None:
    monkeypatch.setenv("SHELL", shell)
    (project.folder / "stages").mkdir()
    (project.folder / "stages/__init__.py").touch()
    mask = "import sys; open(sys.argv[1], 'w').write(open('/proc/self/status').read())"
    (project.folder / "stages/mask.py").write_text(mask)
    project.stages(ours="python -m stages.mask ours.out", another="python stages/mask.py another.out")
    assert repro([], Lines(), jobs).status == 0, capfd.readouterr().out
    ending = (1 << signal.SIGINT - 1) | (1 << signal.SIGTERM - 1)
    blocked = [
        int(re.search(r"SigBlk:\s*(\w+)", (project.folder / name).read_text())[1], 16) & ending
        for name in ("ours.out", "another.out")
    ]
    assert blocked == [ending, 0]  # another's program would never let them through again


def test_results_that_only_git_has_come_back_to_a_python_without_dvc(project: Project) -> None:
    """DVC's cache has them under its own Python; here the stage's Python has no DVC at all."""
    project.stages(first="")
    text = (project.folder / "dvc.yaml").read_text()
    (project.folder / "dvc.yaml").write_text(text.replace("- first.out", "- first.out: {cache: false}"))
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    subprocess.run(["git", "add", "-A"], check=True)
    subprocess.run(["git", "commit", "-qm", "one"], check=True)
    (project.folder / "without").mkdir()
    (project.folder / "without/dvc.py").write_text("raise ImportError('no DVC here')")
    (project.folder / "first.out").unlink()  # as DVC does before it starts the stage

    def refuse() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "a_stage.py", "--out", "first.out", "--do", "refuse"],
            env={**os.environ, "DVC_STAGE": "first", "PYTHONPATH": f"{project.folder / 'without'}:{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )

    done = refuse()
    assert done.returncode == 1
    assert (project.folder / "first.out").read_text() == "whole"
    assert "Not brought back" not in done.stderr
    # other bytes than dvc.lock has are no result of this run
    (project.folder / "first.out").write_text("other")
    subprocess.run(["git", "commit", "-qam", "two"], check=True)
    (project.folder / "first.out").unlink()
    done = refuse()
    assert not (project.folder / "first.out").exists()
    assert "Not brought back: first.out (no DVC here)" in done.stderr


def test_a_cost_is_seconds_and_memory_and_the_machine_lies_beside(project: Project) -> None:
    place = project.folder / "results/cost/first.json"
    subprocess.run([sys.executable, "a_stage.py", "--out", "x", "--cost", str(place)], check=True, capture_output=True)
    assert set(json.loads(place.read_text())) == {"seconds", "peak_memory_mib", "tokens_per_second"}
    machine = project.folder / "results/machine"
    assert json.loads((machine / "facts/first.json").read_text())["cpus"] == os.cpu_count()
    assert (machine / "time/seconds.csv").read_text().startswith("stage,seconds\nfirst,")


def test_every_bar_of_tqdm_is_told_once_it_takes_a_while(project: Project, capfd: pytest.CaptureFixture) -> None:
    class Kept(Lines):
        seen: set[tuple]

        def progress(self, head: str, label: str, done: int, total: int | None) -> None:
            self.seen.add((head, label, done, total))

    shown = Kept()
    shown.seen = set()
    (project.folder / "a_stage.py").write_text(
        STAGE.replace(
            'scratch.write_text("whole")',
            """
        from tqdm.auto import trange
        for _ in trange(3, desc="AWQ"):
            time.sleep(0.6)
        for _ in trange(9000, desc="short"):
            pass
        scratch.write_text("whole")""",
        )
    )
    project.stages(first="")
    assert repro([], shown).status == 0
    assert ("[1/1] first", "AWQ", 2, 3) in shown.seen
    assert {label for _, label, _, _ in shown.seen} == {"AWQ"}
    assert "AWQ" not in project.log("first")


def test_events_reach_the_screen() -> None:
    class Kept(Lines):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple] = []

        def progress(self, head: str, label: str, done: int, total: int | None) -> None:
            self.seen.append((head, label, done, total))

    shown = Kept()
    stages = Stages(shown)
    stages._line("14 stages are looked at")
    stages._line("Running stage 'finetune@travel':")
    stages._event({"stage": "finetune@travel", "kind": "progress", "label": "step", "done": 3, "total": 60})
    stages._event({"stage": "evaluate@travel", "kind": "progress", "label": "row", "done": 3, "total": 60})
    assert shown.seen == [("[1/14] finetune travel", "step", 3, 60)]


def test_a_terminal_gets_bars_with_the_time_left() -> None:
    from rich.console import Console
    from rich.progress import Progress

    kept = StringIO()
    with Progress(console=Console(file=kept, force_terminal=True, width=100), auto_refresh=False) as progress:
        bars = Bars(progress)
        bars.start("[5/14] finetune travel")
        bars.progress("[5/14] finetune travel", "step", 1, 60)
        time.sleep(0.01)
        bars.progress("[5/14] finetune travel", "step", 3, 60)
        (task,) = progress.tasks
        assert task.description == "[5/14] finetune travel: step"
        assert re.fullmatch(r"3 of 60, [\d.]+ (s|min .*) left", task.fields["state"])
        bars.end("[5/14] finetune travel", "done in 3.1 s", "green")
        bars.progress("[5/14] finetune travel", "step", 4, 60)  # a late event
        assert not progress.tasks
    assert "[5/14] finetune travel done in 3.1 s" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", kept.getvalue())


def test_the_fifo_carries_whole_events_and_passes_over_others() -> None:
    lines = [b'{"stage": "a", "kind": "note", "text": "x"}\n', b"{\n", b"3\n", b'{"stage": 1}\n']
    assert list(report.read(lines)) == [{"stage": "a", "kind": "note", "text": "x"}]


@pytest.mark.parametrize(("seconds", "text"), [(4.24, "4.2 s"), (75.4, "75 s"), (750, "12 min 30 s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_count_is_that_of_the_stages_dvc_looks_at(project: Project, capfd, jobs: int) -> None:
    project.stages(first="", second="", third="")
    run(capfd, jobs=jobs)
    counts = {(): 3, ("second",): 2, ("-s", "third"): 1, ("--downstream", "second"): 2, ("-p", "first"): 3}
    for arguments, count in counts.items():
        outcome, lines = run(capfd, *arguments, jobs=jobs)
        assert [line.split()[0] for line in lines] == [f"[{number + 1}/{count}]" for number in range(count)]
        assert outcome.idle and len(outcome.unchanged) == count


# ends DVC as it writes dvc.lock: the file is cut off, and the outputs of the stage that comes next are deleted
END_DVC = """
import os, signal
from pathlib import Path
lock = Path("dvc.lock").read_bytes()
Path("dvc.lock").write_bytes(lock[: len(lock) // 3])
Path("first.out").unlink()
os.kill(os.getppid(), signal.SIGKILL)
"""


def test_a_lock_that_dvc_was_writing_as_it_was_ended_is_put_right(after_a_run: Project, capfd, monkeypatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/bash")
    folder = after_a_run.folder
    before = (folder / "dvc.lock").read_bytes()
    (folder / "end.py").write_text(END_DVC)
    after_a_run.stages(first="", slow="", last="python end.py")
    outcome, lines = run(capfd)
    assert outcome.status == 128 + signal.SIGKILL
    assert "dvc.lock was cut off as DVC was ended: it is as it was before this run." in lines
    assert (folder / "dvc.lock").read_bytes() == before
    assert (folder / "first.out").read_text() == "whole"
    after_a_run.stages(first="", slow="")
    outcome, _ = run(capfd)
    assert (outcome.status, outcome.unchanged) == (0, ["first", "slow"])


@pytest.mark.parametrize("left", ["", '{"write": {"a', '{"write": 1}'])
def test_a_note_of_dvcs_that_was_cut_off_is_deleted(after_a_run: Project, capfd, left: str) -> None:
    """As a full disk leaves it; no DVC goes on from there by itself."""
    note = Path(".dvc/tmp/rwlock")
    note.write_text(left)
    alone = subprocess.run([sys.executable, "-m", "dvc", "repro"], check=False, capture_output=True, text=True)
    assert alone.returncode == 255
    assert "rwlock" in alone.stderr
    outcome, lines = run(capfd)
    assert (outcome.status, outcome.unchanged) == (0, ["first", "slow"])
    assert [line for line in lines if "cut off" in line and str(note) in line]


def test_a_note_that_is_cut_off_while_dvc_runs_is_deleted_too(after_a_run: Project, capfd) -> None:
    Path("cut.py").write_text("open('.dvc/tmp/rwlock', 'w').write('{')")
    after_a_run.stages(first="", slow="", last="python cut.py")
    outcome, lines = run(capfd)
    assert outcome.status == 255
    assert [line for line in lines if "cut off: it is deleted" in line]
    after_a_run.stages(first="", slow="")
    outcome, _ = run(capfd)
    assert (outcome.status, outcome.unchanged) == (0, ["first", "slow"])


def test_a_lock_cut_off_anywhere_is_seen(after_a_run: Project) -> None:
    lock = Path("dvc.lock")
    whole = lock.read_bytes()
    before = Before.now()
    assert before.put_right() == []
    for length in range(0, len(whole) - 1, 7):
        lock.write_bytes(whole[:length])
        before.put_right()
        # of the last stage's entry alone something may lack: DVC then takes that stage from its run cache
        assert lock.read_bytes() == whole or yaml.safe_load(lock.read_text())["stages"].keys() == {"first", "slow"}
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    assert lock.read_bytes() == whole


def test_a_stage_that_is_gone_is_no_lock_cut_off(after_a_run: Project) -> None:
    before = Before.now()
    after_a_run.stages(first="")
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    del lock["stages"]["slow"]
    text = yaml.safe_dump(lock)
    Path("dvc.lock").write_text(text)
    assert before.put_right() == []
    assert Path("dvc.lock").read_text() == text
