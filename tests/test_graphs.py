"""Which of a folder's two graphs is loaded: by the machine, by the switch, by who vouches for the library."""

import json
import sys
from dataclasses import replace

import pytest

from olivepress.core.artifact import LIBRARIES, LIBRARY, MODEL, OPERATORS
from olivepress.core.errors import PressError
from olivepress.core.outputs import sha256
from olivepress.export.operator_library import copy_libraries
from olivepress.runtime.graphs import CONFIGURED, FEATURES, SWITCH, Machine, choose, this_machine
from olivepress.runtime.trust import read_genai_config

CONFIG = {"model": {"context_length": 8, "vocab_size": 9, "pad_token_id": 0, "decoder": {"filename": MODEL}}}
FIT = Machine("linux", "x86_64", "glibc", "2.28", frozenset(FEATURES["x86_64"]))
ARM = Machine("linux", "aarch64", "glibc", "2.28", frozenset(FEATURES["aarch64"]))


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)


@pytest.fixture
def folder(tmp_path):
    """A model folder with two graphs, which nobody opens here, and the libraries of the installed operators."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (MODEL, OPERATORS):
        (folder / name).touch()
    copy_libraries(folder)
    (folder / "genai_config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.mark.parametrize("machine", [FIT, ARM], ids=["x86_64", "aarch64"])
def test_a_machine_that_has_what_the_operators_need_gets_its_own(folder, machine):
    graph, library = choose(folder, machine=machine), LIBRARIES[machine.processor]
    assert (graph.file, graph.library) == (OPERATORS, library)
    assert graph.overlay() == {"filename": OPERATORS, "session_options": {"custom_ops_library": library}}
    assert str(graph) == f"graph with native operators ({OPERATORS}): this machine has what they need"


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"system": "darwin"}, "the operators are for Linux, this is darwin"),
        ({"system": "win32", "processor": "AMD64"}, "the operators are for Linux, this is win32"),
        ({"processor": "riscv64"}, "the operators are for x86_64 and aarch64, this is riscv64"),
        ({"processor": "aarch64", "features": frozenset({"fp", "asimd"})}, "the processor has no asimddp"),
        ({"libc_version": "2.17"}, "the operators need glibc 2.28, this is glibc 2.17"),
        ({"libc": "", "libc_version": ""}, "the operators need glibc 2.28, this is another C library"),
        ({"features": frozenset({"avx2", "f16c"})}, "the processor has no fma, bmi1, bmi2, abm, movbe"),
    ],
)
def test_every_other_machine_gets_the_portable_one_and_the_reason(folder, other, why):
    graph = choose(folder, machine=replace(FIT, **other))
    assert (graph.file, graph.library, graph.why) == (MODEL, None, why)
    assert graph.overlay() == {}, "the one that genai_config.json names"


def test_operators_that_would_be_slow_can_be_had_and_those_that_cannot_run_cannot(folder):
    assert choose(folder, "operators", replace(FIT, features=frozenset())).library
    with pytest.raises(PressError, match="cannot run here: the operators are for x86_64 and aarch64, this is ppc64le"):
        choose(folder, "operators", replace(FIT, processor="ppc64le"))


def test_the_switch_is_an_argument_or_the_environments(folder, monkeypatch):
    monkeypatch.setenv(SWITCH, "portable")
    assert str(choose(folder, machine=FIT)) == f"portable graph ({MODEL}): as asked for"
    assert choose(folder, "operators", FIT).file == OPERATORS
    assert choose(folder, "auto", FIT).file == OPERATORS
    monkeypatch.setenv(SWITCH, "operators")
    assert choose(folder, machine=FIT).file == OPERATORS
    assert choose(folder, CONFIGURED, FIT).file == MODEL, "what has to be the same everywhere takes no switch"
    monkeypatch.setenv(SWITCH, "fast")
    with pytest.raises(PressError, match=r"'fast' \(the argument, or OLIVEPRESS_GRAPH\): expected auto, portable, op"):
        choose(folder, machine=FIT)


def test_a_folder_with_one_graph_has_no_other_to_force(folder):
    (folder / OPERATORS).unlink()
    for wanted in (None, "operators", CONFIGURED):
        assert choose(folder, wanted, FIT).overlay() == {}
        assert choose(folder, wanted, FIT).library == LIBRARY
        arm = choose(folder, wanted, ARM)
        assert arm.overlay() == {"session_options": {"custom_ops_library": arm.library}}
        assert arm.library == LIBRARIES["aarch64"], "genai_config.json names the other"
    with pytest.raises(PressError, match=r"has only the graph with native operators .*lora_operator: both"):
        choose(folder, "portable", FIT)
    (folder / LIBRARIES["aarch64"]).unlink()
    with pytest.raises(
        PressError, match=r"only graph needs olivepress_lora\.aarch64\.so on aarch64, which is not there"
    ):
        choose(folder, None, ARM)
    (folder / LIBRARY).unlink()
    assert not choose(folder, None, FIT).library
    with pytest.raises(PressError, match="has only the portable graph"):
        choose(folder, "operators", FIT)


def test_a_library_that_is_not_there_leaves_the_portable_one(folder):
    (folder / LIBRARY).unlink()
    assert choose(folder, machine=FIT).why == f"{LIBRARY} is not there"
    assert choose(folder, machine=ARM).library == LIBRARIES["aarch64"], "which is there"
    with pytest.raises(PressError, match="is not there"):
        choose(folder, "operators", FIT)


@pytest.mark.parametrize("name", LIBRARIES.values())
def test_another_library_is_refused_where_somebody_can_say(folder, monkeypatch, name):
    """Also the one of another kind of processor than this machine's: nobody has to look which it is."""
    (folder / name).write_bytes(b"another")
    with pytest.raises(PressError, match="native code that nobody vouches for"):
        read_genai_config(folder)
    monkeypatch.setitem(sys.modules, "olivepress_operators", None)  # a consumer has none installed
    manifest = folder.parent / "manifest.json"
    manifest.write_text(json.dumps({"files": {f"model/{name}": {"sha256": 64 * "0"}}}))
    with pytest.raises(PressError, match="native code that nobody vouches for"):
        read_genai_config(folder)
    manifest.write_text(json.dumps({"files": {}}))
    with pytest.raises(PressError, match="native code that nobody vouches for"):
        read_genai_config(folder)


def test_where_nobody_can_say_the_portable_one_is_loaded_and_no_library(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "olivepress_operators", None)
    read_genai_config(folder)
    graph = choose(folder, machine=FIT)
    assert (graph.file, graph.library) == (MODEL, None)
    assert "no manifest.json and no installed operators vouch for" in graph.why
    with pytest.raises(PressError, match="vouch for"):
        choose(folder, "operators", FIT)
    manifest = {"files": {f"model/{name}": {"sha256": sha256(folder / name)} for name in LIBRARIES.values()}}
    (folder.parent / "manifest.json").write_text(json.dumps(manifest))
    assert choose(folder, machine=FIT).file == OPERATORS


def test_a_config_that_names_an_unknown_library_itself_is_refused(folder, monkeypatch):
    """GenAI would load it with the portable graph, too."""
    monkeypatch.setitem(sys.modules, "olivepress_operators", None)
    config = {"model": {**CONFIG["model"], "decoder": {"session_options": {"custom_ops_library": LIBRARY}}}}
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(PressError, match="native code that nobody vouches for"):
        read_genai_config(folder)


def test_what_this_machine_is_can_be_read():
    machine = this_machine()
    assert machine.system == sys.platform
    assert machine.processor
    if machine.system == "linux" and machine.processor in FEATURES:
        assert {"sse2", "asimd"} & machine.features
