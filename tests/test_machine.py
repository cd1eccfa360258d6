"""The tables of seconds and speeds: written by every stage, also by stages that end at the same time."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from olivepress.core.machine import record_machine
from olivepress.core.outputs import atomic_output, write_json

# What a stage does at its end, again and again: DVC removes the cost before a stage begins.
STAGE = """
import sys
from pathlib import Path
from olivepress.core.machine import record_machine
from olivepress.core.outputs import write_json
cost = Path(sys.argv[1])
for _ in range(60):
    cost.unlink(missing_ok=True)
    write_json(cost, {"seconds": 1.5, "median_tokens_per_second": 20})
    record_machine(cost)
"""


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_stages_that_end_at_the_same_time_all_stand_in_the_tables(tmp_path: Path) -> None:
    names = ["auto-opt", "evaluate", "finetune", "smoke-infer"]
    stages = [
        subprocess.Popen([sys.executable, "-c", STAGE, tmp_path / f"cost/{name}/a.json"], stderr=subprocess.PIPE)
        for name in names
    ]
    assert [(stage.communicate()[1], stage.returncode) for stage in stages] == [(b"", 0)] * len(names)
    header, *times = rows(tmp_path / "machine/time/seconds.csv")
    assert (header, sorted(times)) == (["stage", "seconds"], [[f"{name} a", "1.5"] for name in names])
    header, *speeds = rows(tmp_path / "machine/speed/tokens_per_second.csv")
    assert (header, sorted(speeds)) == (["stage", "tokens_per_second"], [[f"{name} a", "20"] for name in names])
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_stages_stand_in_the_order_in_which_they_ran(tmp_path: Path) -> None:
    for name, ended in (("b", 10), ("c", 30), ("a", 20)):
        write_json(tmp_path / f"cost/{name}.json", {"seconds": ended})
        os.utime(tmp_path / f"cost/{name}.json", (ended, ended))
    record_machine(tmp_path / "cost/a.json")
    assert rows(tmp_path / "machine/time/seconds.csv")[1:] == [["b", "10"], ["a", "20"], ["c", "30"]]
    assert rows(tmp_path / "machine/speed/tokens_per_second.csv") == [["stage", "tokens_per_second"]]


def test_a_file_is_never_missing_while_another_takes_its_place(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "cost.json"
    write_json(path, {"seconds": 1})
    seen = []
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: (seen.append(path.exists()), rename(self, to))[1])
    write_json(path, {"seconds": 2})
    assert (seen, path.read_text()) == ([True], '{\n  "seconds": 2\n}\n')


def test_a_folder_takes_a_files_place_and_a_file_a_folders(tmp_path: Path) -> None:
    place = tmp_path / "out"
    for is_folder in (False, True, True, False, False):
        with atomic_output(place) as scratch:
            (scratch.mkdir if is_folder else scratch.touch)()
        assert place.is_dir() == is_folder
        assert list(tmp_path.iterdir()) == [place]


def test_what_takes_a_links_place_leaves_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    place = tmp_path / "out"
    place.symlink_to(tmp_path / "cache")
    for is_folder in (True, False):
        with atomic_output(place) as scratch:
            (scratch.mkdir if is_folder else scratch.touch)()
        assert (place.is_symlink(), place.is_dir()) == (False, is_folder)
    assert (tmp_path / "cache").is_dir()
