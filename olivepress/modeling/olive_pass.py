"""Run one Olive pass on a checkpoint folder, without Olive's workflow engine around it.

DVC already caches, orders and reruns; Olive's engine would do all that a second time and write absolute paths.
"""

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivepress.core.providers import CPU
from olivepress.core.remote_code import without_remote_code

if TYPE_CHECKING:
    from olive.model import HfModelHandler
    from olive.passes import Pass

os.environ.setdefault("OLIVE_DISABLE_TELEMETRY", "1")


def run_pass(
    pass_class: "type[Pass]",
    config: dict[str, Any],
    checkpoint: Path,
    out: Path,
    *,
    provider: str = CPU,
    trust_remote_code: bool = False,
) -> "HfModelHandler":
    """Run ``pass_class`` with ``config`` on the Hugging Face folder ``checkpoint``; it writes to ``out``.

    ``provider`` is the ONNX Runtime execution provider of the target. Returns Olive's handler of the result.
    Without ``trust_remote_code`` the pass does not get to see what code the checkpoint names.
    """
    from olive.hardware.accelerator import AcceleratorSpec, Device
    from olive.hardware.constants import ExecutionProvider
    from olive.model import HfModelHandler
    from olive.passes.olive_pass import create_pass_from_dict

    logging.getLogger("olive").setLevel(logging.WARNING)
    device = Device.CPU if provider == CPU else Device.GPU
    accelerator = AcceleratorSpec(device, ExecutionProvider(provider))
    olive_pass = create_pass_from_dict(pass_class, config, accelerator_spec=accelerator, disable_search=True)
    with nullcontext(checkpoint) if trust_remote_code else without_remote_code(checkpoint) as folder:
        model = HfModelHandler(model_path=str(folder), load_kwargs={"trust_remote_code": trust_remote_code})
        return olive_pass.run(model, str(out))
