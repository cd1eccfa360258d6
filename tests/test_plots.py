"""Plots need no network, and every definition in dvc.yaml finds its template."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tools import make_plots_page

ROOT = Path(__file__).parents[1]
PLOTS = ROOT / ".dvc/plots"
PAGE = (PLOTS / "page.html").read_text(encoding="utf-8")
TEMPLATES = sorted(PLOTS.glob("*.json"))


def test_the_page_holds_vega_and_loads_nothing() -> None:
    assert PAGE.count("<script>") == 4
    page = re.sub(r"<script>.*?</script>", "", PAGE, flags=re.S)
    assert not re.search(r"<(script|link|img|iframe)", page)
    assert "{scripts}" not in PAGE  # DVC would put a content delivery network there
    assert PAGE.count("{plot_divs}") == 1
    assert all(package in PAGE for package in make_plots_page.PACKAGES)
    assert "Redistribution and use in source and binary forms" in PAGE


def declared() -> dict[str, dict]:
    """Path -> options of every plot in dvc.yaml: the stages' and the machine's, which are nobody's output."""
    project = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    of_stages = (stage.get("do", stage).get("plots", []) for stage in project["stages"].values())
    return {
        path: options for plots in (*of_stages, project["plots"]) for each in plots for path, options in each.items()
    }


def test_every_plot_has_a_template_and_every_template_a_plot() -> None:
    assert {options["template"] for options in declared().values()} == {path.stem for path in TEMPLATES}


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_templates_name_revisions_and_take_what_dvc_fills_in(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    json.loads(text)
    for anchor in ("DATA", "TITLE", "X", "Y"):
        assert f"<DVC_METRIC_{anchor}>" in text
    assert '"field": "rev"' in text  # dvc plots diff shows two


def test_a_clone_that_never_ran_shows_what_git_has_without_complaint(empty_project: Path, tmp_path: Path) -> None:
    """Speed and time belong to a machine: here it has measured nothing."""
    shutil.copytree(empty_project, tmp_path, dirs_exist_ok=True)
    for name in (".dvcignore", ".dvc/config", *(path.relative_to(ROOT) for path in PLOTS.iterdir())):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for name in ("machine/speed", "machine/time", "live/plots"):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        (folder / ".gitignore").write_bytes((ROOT / f"results/{name}/.gitignore").read_bytes())
    plots = {}
    for path, options in declared().items():
        # the folder of a path that holds an adapter's or a target's name
        plots[path.partition("/$")[0]] = {key: value for key, value in options.items() if key != "cache"}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": [{path: options} for path, options in plots.items()]}))
    for name, text in {
        "training/travel": "rows,step,loss\ntraining,1,9.5\nheld out,1,9\n",
        "steps/cpu-int4/travel": "step,loss\nbase,9.1\nquantized_onnx,9.2\n",
        "size/cpu-int4": "step,megabytes\nbase,6.9\nquantized,3.5\n",
    }.items():
        path = tmp_path / f"results/plots/{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = subprocess.run(["dvc", "plots", "show"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "failed" not in done.stdout + done.stderr
    page = (tmp_path / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert "cdn." not in page
    assert page.count("vegaEmbed('#") == 3
    assert '"title": "nats a token"' in page
