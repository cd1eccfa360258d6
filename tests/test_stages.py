"""The real scripts: bad input ends in a short message and leaves earlier output alone.

Each runs as DVC and people run it once for an option that it does not know and once for its help, the rest in process.
"""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from in_process import run_stage

from olivepress.core import stage as stage_module
from olivepress.core.errors import PressError
from olivepress.core.outputs import atomic_output

ROOT = Path(__file__).parents[1]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
TINY = "data/tiny-phi3"
QUANTIZE = ["quantize", "--base", TINY, "--calibration-data", "data/calibration.jsonl"]
PREPARE = ["prepare", "--data", "data/travel.jsonl", "--model", TINY]


def command(name: str, *options: str) -> list[str]:
    return [sys.executable, "-m", f"stages.{name}", *map(str, options)]


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(name, *options), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120
    )


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def places(tmp_path):
    """--out and --quality with earlier output in them."""
    folder = tmp_path / "places"
    (folder / "out" / "nested").mkdir(parents=True)
    (folder / "out" / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "out" / "nested" / "file").write_text("earlier")
    (folder / "quality.json").write_text('{"earlier": true}\n')
    return folder


def options(places: Path) -> list[str]:
    return ["--out", str(places / "out"), "--quality", str(places / "quality.json")]


def assert_short(stderr: str) -> None:
    assert "Traceback" not in stderr
    assert "Error: " in stderr
    assert len(stderr.strip().splitlines()) <= 6


# --- messages

BAD = [
    ([*QUANTIZE, "--grop-size", "32"], 2, "No such option '--grop-size'. Did you mean '--group-size'?"),
    ([*QUANTIZE, "--samples", "9999"], 1, "data/calibration.jsonl: too little calibration data"),
    ([*QUANTIZE, "--samples", "many"], 2, "Invalid value for '--samples': 'many' is not a valid integer range."),
    ([*QUANTIZE, "--samples", "0"], 2, "Invalid value for '--samples': 0 is not in the range x>=1."),
    ([*QUANTIZE, "--sequence_length", "8"], 2, "Invalid value for '--sequence-length': 8 is not in the range x>=16."),
    ([*QUANTIZE, "--seed", "1.5"], 2, "Invalid value for '--seed': '1.5' is not a valid integer."),
    ([*QUANTIZE, "--group_size", "20"], 2, "'20' is not one of '16', '32', '64', '128'."),
    ([*QUANTIZE, "--algorithm", "gguf"], 2, "'gguf' is not one of 'awq', 'rtn', 'gptq', 'kquant'."),
    ([*QUANTIZE, "--device", "npu"], 2, "'npu' is not one of 'cpu', 'cuda'."),
    ([*QUANTIZE, "--bits", "3"], 2, "'3' is not one of '4', '8'."),
    ([*QUANTIZE, "--algorithm", "awq", "--bits", "8"], 1, "quantize.bits: awq packs 4 bits, not 8. Use rtn, gptq or"),
    (["quantize", "--base", "none"], 2, "Invalid value for '--base': Directory 'none' does not exist."),
    (["quantize", "--base", TINY], 2, "Missing option '--calibration-data'."),
    ([*QUANTIZE[:-1], "none.jsonl"], 2, "Invalid value for '--calibration-data': File 'none.jsonl' does not exist."),
    (["quantize", "--base", "data", *QUANTIZE[3:]], 1, "data: no config.json. Expected a Hugging Face checkpoint"),
    ([*PREPARE, "--held-out", "0.95"], 2, "Invalid value for '--held-out': 0.95 is not in the range 0<x<=0.9."),
    ([*PREPARE, "--held-out", "0"], 2, "0.0 is not in the range 0<x<=0.9."),
    ([*PREPARE, "--held_out", "1"], 2, "Invalid value for '--held-out': 1.0 is not in the range 0<x<=0.9."),
    ([*PREPARE, "--held-out", "half"], 2, "'half' is not a valid number."),
    ([*PREPARE, "--template", "{prompt} {reply}"], 1, "text.template: unknown field {reply}."),
    (["prepare", "--data", "docs", "--model", TINY], 1, "docs: holds no file of rows (.jsonl, .ndjson, .json, .csv"),
    (["prepare", "--data", "none", "--model", TINY], 1, "none: not there. Expected a file or folder of rows"),
    (
        ["prepare", "--data", "data/calibration.jsonl", "--model", TINY],
        1,
        "data/calibration.jsonl:1: field 'prompt' is",
    ),
    (["prepare", "--data", "pyproject.toml", "--model", TINY], 1, "pyproject.toml:1: column 2: broken JSON"),
    (["fetch", "--source", "ftp://host/model"], 1, "model.source: ftp://host/model: unknown scheme."),
    (["fetch", "--source", "data/none"], 1, "model.source: data/none: no such folder."),
    (["fetch", "--source", "data"], 1, "data: no config.json."),
    (
        ["finetune", "--model", TINY, "--data", "none"],
        2,
        "Invalid value for '--data': Directory 'none' does not exist.",
    ),
    (["finetune", "--model", TINY, "--data", "data", "--dropout", "1"], 2, "1.0 is not in the range 0<=x<1."),
    (["finetune", "--model", TINY, "--data", "data", "--rank", "0"], 2, "0 is not in the range 1<=x<=1024."),
    (["finetune", "--model", TINY, "--data", "data", "--alpha", "nan"], 2, "nan is not a finite number."),
    (["finetune", "--model", TINY, "--data", "data", "--learning-rate", "inf"], 2, "inf is not a finite number."),
    ([*PREPARE, "--held-out", "nan"], 2, "nan is not a finite number."),
    ([*PREPARE, "--template", "{prompt:d} {response}"], 1, "a format or conversion of {prompt}. Write {prompt} alone."),
    (["auto_opt", "--model", "data"], 1, "data: no config.json."),
    (["auto_opt", "--model", TINY, "--provider", "npu"], 2, "Invalid value for '--provider': 'npu' is not one of"),
    (["convert_adapter", "--adapter", "none", "--model", TINY], 2, "Directory 'none' does not exist."),
]


@pytest.mark.parametrize(("line", "status", "expected"), BAD, ids=[" ".join(line[-3:]) for line, _, _ in BAD])
def test_bad_input_ends_in_a_short_message_and_touches_nothing(places, line, status, expected):
    before = snapshot(places)
    ran = run_stage(*line, *options(places))
    assert expected in " ".join(ran.stderr.split())
    assert ran.exit_code == status
    assert_short(ran.stderr)
    assert snapshot(places) == before


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_refuses_an_unknown_option(name):
    ran = run(name, "--no-such-thing")
    assert ran.returncode == 2
    assert "No such option '--no-such-thing'" in ran.stderr
    assert_short(ran.stderr)


# --- help


@pytest.mark.parametrize("name", STAGES)
def test_help_answers_at_once(name):
    """It imports little, and nothing heavy: what takes time is known without a clock."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", *command(name, "--help")[1:]],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.startswith(f"Usage: python -m stages.{name} [OPTIONS]")
    assert "--cost" in ran.stdout
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {"torch", "transformers", "olive", "onnx", "numpy", "onnxruntime", "datasets", "dvc", "peft"}
    assert len(loaded) < 400  # 225 at most when this was written; torch alone has a thousand


# --- signals


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file/out", "cannot be written there (File exists)"),
        ("file/below/out", "cannot be written there (Not a directory)"),
        ("x" * 300, "cannot be written there (File name too long)"),
        ("..", "no name that an output can have"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_named(tmp_path, place, said):
    (tmp_path / "file").write_text("the user's own")
    with pytest.raises(PressError, match=re.escape(said)), atomic_output(tmp_path / place):
        pytest.fail("it was written")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


SLOW = """
import sys, time
from pathlib import Path
import click
from olivepress.core.outputs import atomic_output
from olivepress.core.stage import Out, stage

@stage
@click.option("--out", type=Out)
@click.option("--quality", type=Out)
def main(out: Path, quality: Path) -> None:
    with atomic_output(out) as scratch:
        scratch.mkdir()
        (scratch / "half").write_text("of the output")
        print("under way", file=sys.stderr, flush=True)
        time.sleep(600)

main()
"""


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "Terminated"), (signal.SIGINT, 130, "Interrupted")]
)
def test_a_signal_in_the_middle_of_the_work_leaves_earlier_output_alone(places, number, status, word):
    before = snapshot(places)
    line = [sys.executable, "-c", SLOW, *options(places)]
    # An ignored SIGINT (a test run in the background of a shell) would be inherited, a handler is not.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(line, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, handler)
    guard = threading.Timer(90, process.kill)
    guard.start()
    try:
        assert process.stderr.readline() == "under way\n"
        assert snapshot(places) != before, "it writes beside the output"
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait() == status
    finally:
        guard.cancel()
        process.kill()
        process.wait()
        process.stderr.close()
    assert said == f"{word}: nothing was written, earlier outputs are untouched.\n"
    assert snapshot(places) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_a_stage_is_imported_under_dvc_waits_until_outputs_can_be_brought_back(tmp_path, number, status):
    """Twice: it comes from a terminal and from who runs the stage."""
    code = (
        "import os, signal, stages\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"os.kill(os.getpid(), {int(number)}); os.kill(os.getpid(), {int(number)})\n"
        "from stages.fetch import main\n"
        f"main(['--source', {str(ROOT / TINY)!r}, '--out', 'out', '--quality', 'quality.json'])"
    )
    (tmp_path / "dvc.lock").write_text("stages: {fetch: {cmd: x, outs: [{path: gone, md5: '0'}]}}")
    environment = {**ENVIRONMENT, "DVC_STAGE": "fetch", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and "Not brought back: gone" in done.stderr
    assert not (tmp_path / "out").exists()


CHANGED = """
import os, signal, sys
from pathlib import Path
import click
from olivepress.core.errors import PressError
from olivepress.core.stage import stage

class Named:
    def __set_name__(self, owner, name):  # Python makes a RuntimeError of what is raised here
        os.kill(os.getpid(), signal.{name})
        sum(range(1000))

def defined():
    class Owner:
        field = Named()

def refused():
    try:
        defined()
    except RuntimeError as error:
        raise PressError("it cannot be loaded") from error

def lost():
    try:
        defined()
    except BaseException:
        pass

@stage
@click.option("--out", type=Path)
@click.option("--quality", type=Path)
def main(out, quality):
    {way}()

main()
"""


@pytest.mark.parametrize(("name", "status", "word"), [("SIGTERM", 143, "Terminated"), ("SIGINT", 130, "Interrupted")])
@pytest.mark.parametrize("way", ["defined", "refused", "lost"])
@pytest.mark.parametrize("under_dvc", [False, True])
def test_a_signal_that_becomes_another_error_on_its_way_is_answered_all_the_same(
    tmp_path, name, status, word, way, under_dvc
):
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + CHANGED
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), **({"DVC_STAGE": "x"} if under_dvc else {})}
    line = [sys.executable, "-c", code.format(name=name, way=way), "--out", "out", "--quality", "quality.json"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr and "Error" not in done.stderr
    assert done.stderr.count(word) == 1


# --- disk full


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB, or None where it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk_stage(places: Path) -> str:
    """The same failure in process: a stage that gets ENOSPC half way."""

    @stage_module.stage
    def main() -> None:
        with atomic_output(places / "out") as scratch:
            scratch.mkdir()
            (scratch / "half").write_bytes(b"x")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch / "half"))

    ran = CliRunner().invoke(main, [])
    assert ran.exit_code == 1
    return ran.stderr


def test_a_full_disk_is_named_and_leaves_earlier_output_alone(places, small_disk):
    if small_disk:
        (small_disk / "out").mkdir()
        (small_disk / "out" / "earlier").write_text("kept")
        before = snapshot(small_disk)
        ran = run_stage("fetch", "--source", TINY, *options(small_disk))
        assert ran.exit_code == 1
        stderr, after = ran.stderr, snapshot(small_disk)
    else:
        before = snapshot(places)
        stderr, after = full_disk_stage(places), snapshot(places)
    assert "Error: no disk space left while writing" in stderr
    assert "free some and rerun." in stderr
    assert_short(stderr)
    assert after == before


def test_a_full_disk_in_process(places):
    handler = signal.getsignal(signal.SIGTERM)
    before = snapshot(places)
    stderr = full_disk_stage(places)
    signal.signal(signal.SIGTERM, handler)
    scratch = places / ".out.partial" / "half"
    assert stderr == f"Error: no disk space left while writing {scratch}: free some and rerun.\n"
    assert snapshot(places) == before


def test_another_system_error_is_not_taken_for_a_full_disk(places):
    handler = signal.getsignal(signal.SIGTERM)

    @stage_module.stage
    @click.option("--number", type=int)
    def main(number: int) -> None:
        raise OSError(number, os.strerror(number))

    ran = CliRunner().invoke(main, ["--number", str(errno.EIO)])
    signal.signal(signal.SIGTERM, handler)
    assert isinstance(ran.exception, OSError)
    assert ran.exception.errno == errno.EIO


def test_what_failed_lets_go_of_its_memory_before_outputs_are_brought_back():
    class Model:
        pass

    seen = []

    def fail() -> None:
        model = Model()
        seen.append(weakref.ref(model))
        raise MemoryError

    try:
        try:
            fail()
        except MemoryError as error:
            raise RuntimeError("no model") from error
    except RuntimeError as error:
        assert seen[0]() is not None
        stage_module._let_go(error)
        assert seen[0]() is None
