"""What the tests on tiny models share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one architecture stay on one worker: they share its checkpoint, export and adapters."""
    for item in items:
        if item.path == HERE / "test_architectures.py":
            architecture = getattr(item, "callspec", None) and item.callspec.params.get("architecture")
            item.add_marker(pytest.mark.xdist_group(architecture or "llama"))


@pytest.fixture(scope="session")
def one_adapter(finished, once):
    """The finished pipeline after its adapter cooking was taken out: half as much to run again. Copy it.

    ``said``: what `dvc repro` printed after the edit.
    """

    def take_out(folder: Path) -> None:
        space = finished.copy(folder / "clone")
        profile = space.folder / "conf/profile/tiny.yaml"
        settings = YAML().load(profile)
        del settings["adapters"]["cooking"]
        YAML().dump(settings, profile)
        space.run("python", "-m", "olivepress", "params")
        done = space.run("dvc", "repro")
        (folder / "said").write_text(done.stdout + done.stderr)
        space.commit("One adapter")

    folder = once("one-adapter", take_out)
    space = type(finished)(folder / "clone")
    space.said = (folder / "said").read_text()
    return space


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from PyTorch's threads, and lose much where other processes want the cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
