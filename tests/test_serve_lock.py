"""The locks of the server's images: what `olivepress serve` needs, at the pipeline's versions, and nothing else."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pins(path: str) -> dict[str, str]:
    """Name -> version of every package that a lock pins."""
    return dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", (ROOT / path).read_text(), re.M))


@pytest.mark.parametrize(
    ("lock", "pipeline", "runtime"),
    [
        ("requirements.txt", "requirements.txt", "runtime"),
        ("requirements-cuda12.txt", "docker/requirements-cuda12.txt", "runtime-cuda"),
    ],
)
def test_it_has_the_extra_at_the_pipelines_versions_and_no_torch(lock, pipeline, runtime):
    serve, whole = pins(f"docker/serve/{lock}"), pins(pipeline)
    assert {name: whole[name] for name in serve} == serve, "run make lock-serve"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {re.split(r"[^\w-]", name)[0] for name in (*project["dependencies"], *extras[runtime], *extras["http"])}
    assert wanted <= serve.keys(), "run make lock-serve"
    assert not {"torch", "transformers", "dvc", "onnx", "tokenizers"} & serve.keys()
