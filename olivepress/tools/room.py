"""How many stages this machine has room for at a time."""

from pathlib import Path

from olivepress.core import checkpoint
from olivepress.core.lacks import total_memory
from olivepress.tools.doctor.facts import GIB, gpus

MOST = 4  # after quantize a profile has two or more adapters to train and targets to export
BASE = Path("models/base")


def room(root: Path, *, on_gpu: bool) -> int:
    """Stages at a time in the project in ``root``, by processors and memory; 1 before the base model is there.

    ``on_gpu``: whether the profile computes on a CUDA device. The memory of a stage is bounded from above, by what was
    measured of models of 0.1 MB to 7.6 GB (docs/performance.md): it takes the base's weights up to four times, as
    two models in float32, and 1.5 GiB beside; on a GPU 1.4 times, and up to 3 GiB.
    """
    from joblib import cpu_count

    base = root / BASE
    if not (base / "config.json").is_file():
        return 1
    weights = checkpoint.weight_bytes(base)
    bounds = [MOST, cpu_count(), total_memory() // int(4 * weights + 1.5 * GIB)]
    if on_gpu:
        bounds.append(max((gpu.free for gpu in gpus()), default=0) // int(1.5 * weights + 4 * GIB))
    return max(1, min(bounds))
