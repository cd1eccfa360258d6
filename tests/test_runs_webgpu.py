"""When make repro installs WebGPU's plug-in: for a target that is to be run there, and for no other."""

import pytest
import yaml

from olivepress.core.providers import CPU, WEBGPU
from tools.runs_webgpu import main


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        ({"a": {"provider": CPU}}, 1),
        ({"a": {"provider": CPU}, "b": {"provider": WEBGPU}}, 0),
        ({"b": {"provider": WEBGPU, "exported_only": False}}, 0),
        ({"b": {"provider": WEBGPU, "exported_only": True}}, 1),
        (["b"], 1),
        (None, 1),
    ],
)
def test_only_a_target_that_runs_asks_for_it(tmp_path, targets, found):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"targets": targets}))
    assert main(path) == found
    assert main(tmp_path / "none.yaml") == 1
