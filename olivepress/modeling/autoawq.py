"""The import of AutoAWQ 0.2.9, which is archived upstream and still asks for a name that transformers 5 dropped."""

import warnings
from functools import cache
from importlib import util
from pathlib import Path
from types import ModuleType


def import_autoawq() -> ModuleType:
    """The ``awq`` package. transformers 5 renamed an activation that it imports and never uses here."""
    from transformers import activations

    if not hasattr(activations, "PytorchGELUTanh"):
        activations.PytorchGELUTanh = activations.GELUTanh
    # A page of farewell at every import; AutoAWQ switches its own warning on, so a filter would come too early.
    with warnings.catch_warnings(record=True):
        import awq

    return awq


@cache
def packing() -> ModuleType:
    """AutoAWQ's ``awq.utils.packing_utils`` alone. It needs torch and nothing else of the package, whose import takes
    a second in every stage that reads a checkpoint."""
    package = util.find_spec("awq")
    if package is None:
        raise ModuleNotFoundError("No module named 'awq'", name="awq")
    path = Path(package.submodule_search_locations[0]) / "utils" / "packing_utils.py"
    spec = util.spec_from_file_location("awq_packing_utils", path)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
