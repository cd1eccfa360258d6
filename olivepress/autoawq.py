"""The import of AutoAWQ 0.2.9, which is archived upstream and still asks for a name that transformers 5 dropped."""

import warnings
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
