"""A release folder is held to its manifest before anything of it is loaded; everything else is refused by its name."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from olivepress.core.errors import PressError
from olivepress.runtime.integrity import VERIFY, check_release, path_problem, read_manifest
from olivepress.runtime.release import find_release, load

ROOT = Path(__file__).parents[1]
CONFIG = {"model": {"context_length": 8, "vocab_size": 9, "pad_token_id": 0, "decoder": {"filename": "model.onnx"}}}
FILES = {
    "model/genai_config.json": json.dumps(CONFIG).encode(),
    "model/model.onnx": b"graph",
    "model/model.onnx.data": b"weights",
    "adapters/travel.onnx_adapter": b"adapter",
}
MANIFEST = {
    "name": "ft",
    "version": "1.0.0",
    "target": "cpu",
    "adapters": ["travel"],
    "licence": "MIT",
    "files": {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in FILES.items()
    },
    "params": {"text": {"template": "chat"}},
}
DIGEST = "0" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/olivepress/hashes"


@pytest.fixture
def release(tmp_path) -> Path:
    """A release whose files are what its manifest says, though no model."""
    folder = tmp_path / "ft"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "README.md").write_text("the card\n")
    (folder / ".gitignore").write_text("/model\n")
    return folder


def refused(release: Path, verify: str = "cached") -> str:
    with pytest.raises(PressError) as caught:
        check_release(release, verify)
    return caught.value.message


def changed(release: Path, **keys: object) -> None:
    (release / "manifest.json").write_text(json.dumps({**MANIFEST, **keys}))


@pytest.mark.parametrize("verify", VERIFY)
def test_a_release_that_is_what_it_says(release, verify):
    assert check_release(release, verify) == MANIFEST


def test_an_unknown_way_to_verify_is_refused(release):
    assert refused(release, "quick") == "verify: 'quick': expected cached, full, sizes, none."


# --- the folder


def surplus(name: str) -> Callable[[Path], object]:
    def add(release: Path) -> None:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text("x")

    return add


def link(name: str, to: str) -> Callable[[Path], object]:
    def make(release: Path) -> None:
        (release / name).unlink()
        (release / name).symlink_to(to)

    return make


def moved_out(release: Path) -> None:
    (release / "model").rename(release.parent / "elsewhere")
    (release / "model").symlink_to(release.parent / "elsewhere")


FAULTS = {
    "other bytes": (
        lambda release: (release / "model/model.onnx").write_bytes(b"grapH"),
        "model/model.onnx: its SHA-256 is ",
    ),
    "cut off": (lambda release: (release / "model/model.onnx").write_bytes(b"gr"), "model/model.onnx: has 2 bytes, "),
    "missing": (
        lambda release: (release / "model/model.onnx.data").unlink(),
        "onnx.data: is in manifest.json, but",
    ),
    "surplus": (surplus("model/tokenizer.json"), "model/tokenizer.json: is there, but not in manifest.json"),
    "surplus at the top": (surplus("x.txt"), "ft/x.txt: is there, but not in manifest.json"),
    "surplus folder": (surplus("evil/x.py"), "ft/evil/x.py: is there, but not in manifest.json"),
    "surplus native code": (surplus("model/olivepress_lora.so"), "olivepress_lora.so: is there, but not in"),
    "surplus adapter": (surplus("adapters/a.onnx_adapter"), "adapters/a.onnx_adapter: is there, but not in"),
    "what only ends like DVC's": (surplus("model/evil.gitignore"), "model/evil.gitignore: is there, but not in"),
    "a name that is no text": (
        lambda release: os.close(os.open(os.fsencode(release) + b"/model/\xff\x1b", os.O_CREAT)),
        r"ft: 'model/\udcff\x1b': is there, but not in manifest.json",
    ),
    "a pipe": (lambda release: os.mkfifo(release / "model/pipe"), "model/pipe: is not a file"),
    "a pipe in place": (
        lambda release: [(release / "model/model.onnx").unlink(), os.mkfifo(release / "model/model.onnx")],
        "model/model.onnx: is not a file",
    ),
    "a folder in place": (
        lambda release: [(release / "model/model.onnx").unlink(), (release / "model/model.onnx").mkdir()],
        "model/model.onnx: is in manifest.json, but not there",
    ),
    "a link out": (link("model/model.onnx", "/etc/hostname"), "model/model.onnx: is a link that leaves the release"),
    "a link to nothing": (link("model/model.onnx", "nothing"), "model/model.onnx: cannot be read"),
    "a link to itself": (link("model/model.onnx", "model.onnx"), "model/model.onnx: cannot be read"),
    "a folder that is a link": (moved_out, "ft/model: is a link that leaves the release"),
}


@pytest.mark.parametrize(("spoil", "words"), FAULTS.values(), ids=FAULTS)
def test_a_folder_that_is_not_what_the_manifest_says(release, spoil, words):
    spoil(release)
    message = refused(release)
    assert words in message
    assert "Nothing is loaded: get the release again" in message
    message.encode()  # can be printed
    # the same by its size where the file is small, and in every call that loads
    assert words in refused(release, "sizes")
    with pytest.raises(PressError) as caught:
        load(release)
    assert caught.value.message == message


def test_links_within_the_release_are_files(release):
    (release / "model/model.onnx.data").rename(release / "model/model.onnx.1")
    files = {**MANIFEST["files"], "model/model.onnx.1": MANIFEST["files"]["model/model.onnx.data"]}
    changed(release, files=files)
    (release / "model/model.onnx.data").symlink_to("model.onnx.1")
    check_release(release)


def test_a_flood_of_files_is_refused_before_it_is_read_through(release):
    for number in range(1000):
        (release / f"model/{number}").touch()
    message = refused(release)
    assert "model/0: is there, but not in manifest.json" in message
    assert int(message.split("<name>). ")[1].split()[0]) < 100


def test_a_target_that_is_a_link_out_of_the_folder_is_refused(release, tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all/cpu").symlink_to(release)
    with pytest.raises(PressError, match="all/cpu: is a link that leaves the folder"):
        find_release(tmp_path / "all", None)
    (tmp_path / "named").symlink_to(release)  # by its own name it is what the user asked for
    assert check_release(find_release(tmp_path / "named", None)) == MANIFEST


# --- the manifest


def without(key: str) -> dict:
    return {name: value for name, value in MANIFEST.items() if name != key}


def with_file(name: str, **entry: object) -> dict:
    return {**MANIFEST, "files": {**MANIFEST["files"], name: {"bytes": 1, "sha256": DIGEST, **entry}}}


BAD = {
    "nothing": ("", "line 1, column 1: broken JSON"),
    "not JSON": ("{'name': 1}", "line 1, column 2: broken JSON"),
    "not UTF-8": (b'{"name": "\xff"}', "byte 11 is not UTF-8"),
    "a list": ("[]", "found list, expected an object"),
    "null": ("null", "found NoneType, expected an object"),
    "nested": ("[" * 200_000, "nested too deep"),
    "nested objects": ('{"a":' * 200_000, "nested too deep"),
    "a long number": ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
    "not a number": ('{"a": NaN}', "NaN is no JSON"),
    "large": (b" " * (4 * 2**20 + 1), "at most 4,194,304 are read"),
    "twice": ('{"target": "a", "target": "b"}', "field 'target' is there twice"),
    "twice, deep": (
        json.dumps(MANIFEST).replace('"bytes": 5', '"bytes": 5, "bytes": 6'),
        "field 'bytes' is there twice",
    ),
    "no adapters": (without("adapters"), "it has no adapters"),
    "no files": (without("files"), "it has no files"),
    "no template": ({**MANIFEST, "params": {"text": {}}}, "it has no params.text.template"),
    "params a list": ({**MANIFEST, "params": []}, "params: found '[]', expected an object"),
    "adapters null": ({**MANIFEST, "adapters": None}, "adapters: found 'None', expected a list of names"),
    "adapters a text": ({**MANIFEST, "adapters": "travel"}, "adapters: found 'travel', expected a list"),
    "adapters of an object": ({**MANIFEST, "adapters": [{}]}, "adapters: '{}' is no name"),
    "an adapter elsewhere": ({**MANIFEST, "adapters": ["../../x"]}, "adapters: '../../x' is no name"),
    "an adapter twice": ({**MANIFEST, "adapters": ["travel", "travel"]}, "adapters: 'travel' is there twice"),
    "an adapter without a file": ({**MANIFEST, "adapters": ["travel", "b"]}, "adapters/b.onnx_adapter' is not among"),
    "a file without an adapter": ({**MANIFEST, "adapters": []}, "'adapters/travel.onnx_adapter' is of no adapter"),
    "files a list": ({**MANIFEST, "files": []}, "files: found '[]', expected an object of files"),
    "no model": ({**MANIFEST, "files": {}}, "is not among them"),
    "a target elsewhere": ({**MANIFEST, "target": "../x"}, "target: '../x' is no name"),
    "a version that is a number": ({**MANIFEST, "version": 1}, "version: found '1', expected a text"),
    "a name that a terminal obeys": (
        {**MANIFEST, "name": "\x1b[31mft"},
        "name: '\\x1b[31mft': expected at most 10,000",
    ),
    "a version of two lines": ({**MANIFEST, "version": "1.0.0\nok"}, "version: '1.0.0\\nok': expected"),
    "a licence without end": ({**MANIFEST, "licence": "x" * 10_001}, "licence: 'xxx"),
    "a template with NUL": (
        {**MANIFEST, "params": {"text": {"template": "{prompt}\0{response}"}}},
        "params.text.template: '{prompt}\\x00{response}': expected",
    ),
    "a template with half a character": (
        {**MANIFEST, "params": {"text": {"template": "\ud800{prompt} {response}"}}},
        "params.text.template: '\\ud800{prompt} {response}': expected",
    ),
    "bytes a text": (with_file("model/x", bytes="1"), "'model/x': bytes: expected a whole number"),
    "bytes true": (with_file("model/x", bytes=True), "'model/x': bytes: expected a whole number"),
    "bytes negative": (with_file("model/x", bytes=-1), "'model/x': bytes: expected a whole number"),
    "sha256 null": (with_file("model/x", sha256=None), "'model/x': sha256: expected 64"),
    "sha256 short": (with_file("model/x", sha256="00"), "'model/x': sha256: expected 64"),
    "an entry that is a text": ({**MANIFEST, "files": {"model/x": "0"}}, "'model/x': bytes: expected"),
    "native code": (with_file("model/evil.so"), "'model/evil.so' is native code, and not this project's"),
    "native code elsewhere": (with_file("adapters/olivepress_lora.so"), "is native code, and not"),
    "many files": (
        {**MANIFEST, "files": {f"model/{number}": {} for number in range(10_001)}},
        "files: 10,001, at most 10,000 are read",
    ),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_what_is_no_manifest_is_refused(release, content, words):
    raw = json.dumps(content) if isinstance(content, dict) else content
    (release / "manifest.json").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    with pytest.raises(PressError) as caught:
        load(release)
    assert f"{release / 'manifest.json'}: is no manifest of a release: " in caught.value.message
    assert words in caught.value.message
    assert len(caught.value.message) < 1000


PATHS = ["../x", "model/../../x", "/etc/passwd", "model//x", "model/./x", "./model/x", "model/", "model\\..\\x", "C:/x"]
PATHS += ["", ".", "..", "x", "modelx/y", "model/\0", "model/a\nb", "\\\\host\\x", "model/" + "x" * 2000]


@pytest.mark.parametrize("name", PATHS)
def test_a_path_that_is_not_in_model_or_adapters_is_refused(release, name):
    assert path_problem(name)
    changed(release, files={**MANIFEST["files"], name: {"bytes": 1, "sha256": DIGEST}})
    message = refused(release)
    assert f"files: {name[:200]!r} is " in message


def test_a_manifest_that_is_a_link_or_a_pipe_is_refused(release, tmp_path):
    path = release / "manifest.json"
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert "is no manifest of a release: it is a link" in refused(release)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PressError, match="it is not a file"):
        read_manifest(path)
    with pytest.raises(PressError, match=r"manifest\.json: not there\. Expected a release"):
        load(release)


def test_a_key_with_very_many_fields_twice_takes_no_time(release):
    """Counting each name among all the others would take hours."""
    fields = ",".join(f'"{number}":0' for number in range(200_000))
    (release / "manifest.json").write_text(f'{{{fields},"x":1,"x":2}}')
    assert "field 'x' is there twice" in refused(release)


# --- how it is verified


def test_small_files_are_hashed_with_sizes_and_large_ones_are_not(release):
    large = 16 * 2**20 + 1
    with (release / "model/model.onnx.data").open("wb") as file:
        file.truncate(large)
    changed(release, files={**MANIFEST["files"], "model/model.onnx.data": {"bytes": large, "sha256": DIGEST}})
    check_release(release, "sizes")
    assert "model.onnx.data: its SHA-256 is" in refused(release, "cached")


def test_without_a_manifest_a_folder_is_refused_unless_asked_for(release):
    (release / "manifest.json").unlink()
    with pytest.raises(PressError) as caught:
        load(release)
    assert "manifest.json: not there. Expected a release" in caught.value.message
    assert "without one is loaded with verify='none'" in caught.value.message
    pytest.importorskip("onnxruntime_genai")
    with pytest.raises(PressError, match="ONNX Runtime GenAI cannot load it"):  # it is taken, and is no model
        load(release, verify="none")


def olivepress(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "olivepress", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, input="hello\n", capture_output=True, text=True, check=False)


def test_the_command_lines_refuse_it_too(release):
    done = olivepress("verify", release)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok  ft 1.0.0 for cpu: 4 files, 126 bytes, all as manifest.json says\n"
    (release / "model/model.onnx").write_bytes(b"grapH")
    for command in (["verify", release], ["chat", "--folder", release]):
        done = olivepress(*command)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert f"Error: {release / 'model/model.onnx'}: its SHA-256 is " in done.stderr
