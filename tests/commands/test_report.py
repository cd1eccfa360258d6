"""The page: what it says first, what is missing, what differs, and that nothing of the data gets into its HTML."""

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from example_run import commit, write, write_run

from olivepress.core.errors import PressError
from olivepress.page.figures import better, figure, size, written
from olivepress.results.reader import read
from olivepress.tools import report

NASTY = "</dd></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}\x00\x1b[31m\ud800\u202eabc"


class Elements(HTMLParser):
    """The elements and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def page(root: Path, stale: set[str] = frozenset(), rev: str | None = None) -> str:
    out = root / "report/index.html"
    report.write(read(root, set(stale)), out, rev)
    return out.read_text(encoding="utf-8")


def heading(html: str) -> str:
    return " ".join(re.sub("<[^>]+>", "", re.search(r"<h1>(.*?)</h1>", html, re.S)[1]).split())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_run(tmp_path)
    return tmp_path


def test_the_verdict_is_the_first_line(root: Path) -> None:
    html = page(root)
    assert heading(html) == "ft-for-travel 0.1.0 may be released."
    assert "All 17 thresholds hold (cpu-int4)." in html
    assert heading(page(root, {"evaluate@travel-cpu-int4"})) == "ft-for-travel 0.1.0 is not known as it is now."
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params.replace("min_finetuning_gain: 0.5", "min_finetuning_gain: 2"))
    html = page(root)
    assert heading(html) == "ft-for-travel 0.1.0 may not be released."
    words = Elements(html).words
    gain = "travel: loss(quantized) - loss(finetuned): 1.2 (1.19 to 1.21)"
    assert f"1 of 17 thresholds is missed: cpu-int4, {gain} , expected at least 2" in words
    for kind in ("quality/evaluate", "intervals"):
        (root / f"results/{kind}/cpu-int4/travel.json").unlink()
    html = page(root)
    assert heading(html) == "ft-for-travel 0.1.0 is not evaluated yet."
    assert "Nothing was measured of cpu-int4." in html


def test_a_target_that_no_stage_runs_is_said_to_be_so_under_the_verdict(root: Path) -> None:
    said = "Exported, structure checked, never run here: cpu-int4"
    assert said not in Elements(page(root)).words
    path = root / "results/quality/auto-opt/cpu-int4.json"
    write(root, "quality/auto-opt/cpu-int4", {**json.loads(path.read_text()), "exported_only": True})
    assert said in Elements(page(root)).words


def test_it_says_what_was_made_from_what_and_how_good_it_is(root: Path) -> None:
    words = Elements(page(root)).words
    for said in (
        "awq, 4 bits in groups of 32, a zero point",
        "travel Paris..jsonl MD5 86679f95ab 291 77 rank 4",
        "Base 6.95 MB 100% Quantized checkpoint 3.6 MB 52% Exported, cpu-int4 4.47 MB 64%",
        "What the adapter was trained for. 77 rows, 3,080 tokens of answers.",
        "With travel, ONNX 2.302 2.202 to 2.402",
        "Quantized Base 0.100 0.090 to 0.110",
        "No adapter 118.2 12.5 ms – With travel 102.4 14.0 ms –",
        "Measured by smoke-infer on A processor, 2 cores.",
    ):
        assert said in words, said


def test_data_of_several_sources_have_the_hash_of_what_was_read(root: Path) -> None:
    read_by_prepare = {"data": ["hf://a/b@c0ffee", "data/b.csv"], "sha256": ["1111111111aa", "2222222222bb"]}
    place = root / "models/inputs/data/travel.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(read_by_prepare))
    words = Elements(page(root)).words
    assert "travel hf://a/b@c0ffee, data/b.csv SHA-256 1111111111 , SHA-256 2222222222 291 77 rank 4" in words


def test_forgetting_is_the_general_set_with_each_adapter_on(tmp_path: Path) -> None:
    write_run(tmp_path, ("travel", "cooking"))
    words = Elements(page(tmp_path)).words
    general = words[words.index("Everyday questions that no adapter was trained for") :]
    rows = re.findall(r"(Base|Quantized(?:, ONNX)?|With \w+(?:, ONNX)?) (\d\.\d{3}) \d", general)[:7]
    assert rows == [
        ("Base", "1.620"),
        ("Quantized", "1.700"),
        ("Quantized, ONNX", "1.702"),
        ("With travel", "1.900"),
        ("With travel, ONNX", "1.903"),
        ("With cooking", "1.900"),
        ("With cooking, ONNX", "1.903"),
    ]


def test_the_same_results_are_the_same_bytes(root: Path) -> None:
    assert page(root) == page(root)


def test_it_loads_nothing_and_runs_nothing(root: Path) -> None:
    html = page(root)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)[1]
    assert re.fullmatch(r"default-src 'none'; style-src 'sha256-[\w+/=]+'; base-uri 'none'; form-action 'none'", policy)
    found = Elements(html)
    assert not found.tags & {"script", "link", "img", "iframe", "object", "form"}
    assert not {name for name in found.attributes if name.startswith("on") or name in ("src", "style", "srcset")}
    assert not re.search(r"url\((?!#)|@import", html)
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert not re.search(r'href="(?!#)', html)


def test_nothing_of_the_data_gets_into_the_html(tmp_path: Path) -> None:
    """Answers, prompts, references, sources and the names of adapters and targets."""
    plain, nasty = tmp_path / "plain", tmp_path / "nasty"
    for folder, name, text in ((plain, "travel", "Paris."), (nasty, "<b onclick=alert(3)>'\"&{{ 7*7 }}", NASTY)):
        folder.mkdir()
        write_run(folder, (name,), name, text)
    expected, found = Elements(page(plain)), Elements(page(nasty))
    assert found.tags == expected.tags
    assert found.attributes == expected.attributes
    assert "<script>alert(1)</script>" in found.text
    assert "{{ 7*7 }}" in found.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", page(nasty))


def test_what_is_missing_is_said(root: Path) -> None:
    for name in ("plots", "answers", "samples", "intervals", "cost"):
        for path in sorted((root / "results" / name).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    words = Elements(page(root)).words
    for said in (
        "No losses: it was not trained here.",
        "Nothing was asked of cpu-int4 yet.",
        "cpu-int4 has not run on this machine",
        "There is no earlier release to compare with.",
        "No commit: this is not a git repository",
    ):
        assert said in words, said
    assert "2.202" not in words


def test_an_incomplete_run_without_models_and_metrics_makes_a_page(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    for path in (tmp_path / "results").rglob("*.json"):
        path.unlink()
    words = Elements(page(tmp_path)).words
    assert "ft-for-travel 0.1.0 is not evaluated yet." in words
    assert "No model is in dvc.lock: nothing was made yet." in words


def test_params_of_another_time_are_an_error_that_says_what_to_do(root: Path) -> None:
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("max_bytes:", "max_megabytes:"))
    with pytest.raises(PressError, match=r"params.yaml: thresholds: .*max_megabytes.*make params"):
        page(root)


def test_the_difference_is_to_the_last_release_or_to_a_commit(root: Path) -> None:
    metrics = [{"results/quality/fetch.json": {"cache": False}}]
    stages = {"fetch": {"cmd": "true", "params": ["register"], "metrics": metrics}}
    (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    first = commit(root, "The <first> one")
    subprocess.run(["git", "tag", "-a", "-m", "one", "ft-for-travel@v0.1.0"], cwd=root, check=True)
    assert "There is no earlier release" in page(root)  # HEAD is that release
    write(root, "quality/fetch", {"parameters": 3410176, "weight_bytes": 6000})
    commit(root, "Another")
    write(root, "quality/fetch", {"parameters": 3500000, "weight_bytes": 5000})
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("0.1.0", "0.2.0"))
    html = page(root)
    words = Elements(html).words
    assert "Against the last release, ft-for-travel@v0.1.0: " + first[:10] in words
    assert "“The <first> one”" in words
    assert "fetch parameters 3,410,176 3,500,000 89,824" in words
    assert "params.yaml register.version 0.1.0 0.2.0" in words
    assert "with 2 uncommitted changes" in words
    words = Elements(page(root, rev="HEAD")).words
    assert "fetch weight_bytes 6,000 5,000 -1,000 better" in words
    for revision in ("nonsense", "--output=x", "HEAD:params.yaml"):
        with pytest.raises(PressError, match="git knows no such commit"):
            page(root, rev=revision)


def test_the_command_writes_it_and_says_where(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(root, "A run")
    monkeypatch.chdir(root)
    done = CliRunner().invoke(report.main, ["--out", "elsewhere/page.html"])
    assert done.exit_code == 0, done.output
    assert done.output == "elsewhere/page.html: open it in a browser; it needs no network\n"
    assert (root / "elsewhere/page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    (root / "dvc.lock").unlink()
    done = CliRunner().invoke(report.main, [])
    assert done.exit_code == 1
    assert "nothing has run here" in done.output


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (83432, "83.4 kB"), (4466625, "4.47 MB"), (2.18e9, "2.18 GB")]
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_figures() -> None:
    assert [figure(value) for value in (None, 3410176, 0.5, 54964.6, True, "int4")] == [
        "–",
        "3,410,176",
        "0.5",
        "54,965",
        "True",
        "int4",
    ]
    assert [written(7.8e-05, "kl_divergence"), written(34, "perplexity"), written(54964.6, "perplexity")] == [
        "0.0000780",
        "34.0",
        "54,965",
    ]
    assert written(0.9912, "same_top_token") == "99.1%"
    changes = [("held_out.loss.base", -1), ("general.rouge_l.base", -1), ("rows", 5), ("bytes", None)]
    assert [better(*change) for change in changes] == ["better", "worse", "", ""]
    changes = [("preference_loss.best", -0.1), ("reward_accuracy.best", -0.1), ("reward_margin.after", 0.1)]
    assert [better(*change) for change in changes] == ["better", "worse", "better"]
