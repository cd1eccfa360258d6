"""The stages of the default profile, and which of them ran."""

import re

EVERYTHING = {
    "fetch",
    "prepare@travel",
    "prepare@cooking",
    "quantize",
    "finetune@travel",
    "finetune@cooking",
    "auto-opt@cpu-int4",
    "convert-adapter@travel-cpu-int4",
    "convert-adapter@cooking-cpu-int4",
    "smoke-infer@cpu-int4",
    "evaluate@cpu-int4",
    "register@cpu-int4",
}
AFTER_TRAVEL = {
    "prepare@travel",
    "finetune@travel",
    "convert-adapter@travel-cpu-int4",
    "smoke-infer@cpu-int4",
    "evaluate@cpu-int4",
    "register@cpu-int4",
}


def ran(output: str) -> set[str]:
    """The stages that DVC says it ran, in what `dvc repro` printed."""
    return set(re.findall(r"^Running stage '([^']+)':", output, re.M))
