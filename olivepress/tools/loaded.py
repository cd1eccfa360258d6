"""What the server of warm_stages.py has loaded: import it in that process alone.

The longest part of what those stages import; what only some of them do costs the others memory, but no time.
"""

import importlib
import os
from contextlib import suppress

MODULES = (
    "torch",
    "transformers.generation",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.trainer",
    "peft",
    "datasets",
    "scipy.stats",
    "rouge_score.rouge_scorer",
)

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # some look for devices as they are imported, and CUDA outlives no fork
for name in MODULES:
    with suppress(ImportError):  # the stage that needs it says so
        importlib.import_module(name)
