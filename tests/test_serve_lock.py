"""docker/serve/requirements.txt: what `olivepress serve` needs, at requirements.txt's versions, and nothing else."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pins(path: str) -> dict[str, str]:
    """Name -> version of every package that a lock pins."""
    return dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", (ROOT / path).read_text(), re.M))


def test_it_has_the_extra_at_the_locks_versions_and_no_torch():
    serve, whole = pins("docker/serve/requirements.txt"), pins("requirements.txt")
    assert {name: whole[name] for name in serve} == serve, "run make lock-serve"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {re.split(r"[^\w-]", name)[0] for name in (*project["dependencies"], *extras["runtime"], *extras["serve"])}
    assert wanted - {"olivepress"} <= serve.keys(), "run make lock-serve"
    assert not {"torch", "transformers", "dvc", "onnx", "tokenizers"} & serve.keys()
