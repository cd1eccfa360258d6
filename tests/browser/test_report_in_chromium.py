"""The report in a headless Chromium: axe finds nothing, nothing is loaded or run, it fits a phone and paper."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from example_run import commit, write_run

from olivepress.results.reader import read
from olivepress.tools import report

pytestmark = pytest.mark.xdist_group("browser")  # what Chromium saw is looked at by many tests

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".services/node_modules"  # `make setup-test-services` puts axe and puppeteer there
VIEWS = [
    {"name": "light", "width": 1200, "scheme": "light"},
    {"name": "dark", "width": 1200, "scheme": "dark", "open": True},
    {"name": "phone", "width": 360, "scheme": "light", "open": True},
    {"name": "dark phone", "width": 360, "scheme": "dark"},
    {"name": "print", "width": 673, "scheme": "dark", "media": "print"},  # A4 between its margins
]
NASTY = "</dd></style><script>alert(1)</script><img src=https://127.0.0.1:9/x onerror=alert(2)>" + "long" * 40


def look(page: Path) -> dict[str, dict[str, Any]]:
    """View -> what Chromium saw."""
    chromium = shutil.which("chromium")
    assert chromium and (MODULES / "axe-core").is_dir(), "run make setup-test-services"
    task = {"modules": str(MODULES), "chromium": chromium, "page": str(page), "views": VIEWS}
    command = ["node", str(Path(__file__).parent / "look.mjs")]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """A run with two adapters, changed since the commit that it is compared with."""
    root = tmp_path_factory.mktemp("run")
    write_run(root, ("travel", "cooking"), text="Take the train to the old town, and walk.")
    commit(root, "A run")
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("0.1.0", "0.2.0"))
    report.write(read(root, set()), root / "page.html", "HEAD")
    return look(root / "page.html")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The same with answers, names and sources that would be HTML, and are long."""
    root = tmp_path_factory.mktemp("hostile")
    write_run(root, ("<b onclick=alert(3)>" + "name" * 20,), "<i>" + "target" * 12, NASTY)
    report.write(read(root, {f"evaluate-base@<i>{'target' * 12}"}), root / "page.html")
    return look(root / "page.html")


@pytest.mark.parametrize("view", [view["name"] for view in VIEWS])
def test_axe_finds_nothing(seen, hostile, view):
    for found in (seen[view], hostile[view]):
        assert found["violations"] == []
        assert {"color-contrast", "heading-order", "document-title"} <= set(found["passes"])  # it did look


@pytest.mark.parametrize("view", [view["name"] for view in VIEWS])
def test_it_fits_its_view_and_asks_for_nothing(seen, hostile, view):
    for found in (seen[view], hostile[view]):
        assert found["sideways"] == 0
        assert found["said"] == []  # no script ran, and the policy had nothing to refuse
        assert [url.partition(":")[0] for url in found["asked"]] == ["file"]


def test_dark_is_dark_and_paper_is_white(seen):
    assert {view: found["background"] for view, found in seen.items()} == {
        "light": "rgb(252, 251, 247)",
        "dark": "rgb(24, 26, 20)",
        "phone": "rgb(252, 251, 247)",
        "dark phone": "rgb(24, 26, 20)",
        "print": "rgb(255, 255, 255)",
    }


def test_plots_are_there_with_a_text_and_unscaled_on_a_phone(seen):
    # size; two curves; three sets; speed
    assert len(seen["light"]["plots"]) == 7
    assert set(seen["phone"]["plots"]) == {328}
    assert seen["light"]["alternatives"][1] == (
        "Loss of travel while training: held out from 3.500 at step 0 to 2.300 at step 2; "
        "training from 3.900 at step 1 to 2.400 at step 2."
    )


def test_the_keyboard_reaches_every_section_and_table_in_the_order_of_the_page(seen):
    names, tops = zip(*((each["name"], each["top"]) for each in seen["light"]["focused"]), strict=True)
    assert names[:3] == ("Made from", "Size", "Training")
    assert {"Adapters and their data", "Sizes", "Thresholds, cpu-int4", "Params that changed"} <= set(names)
    assert list(tops) == sorted(tops)


def test_what_is_folded_is_printed(seen):
    assert "Files that differ from the commit" in seen["print"]["text"]
    assert "0a1b" in seen["print"]["text"]  # a hash of dvc.lock, in a part that is closed on a screen
    assert "0a1b" not in seen["light"]["text"]
