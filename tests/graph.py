"""The stages of the default profile, and which of them ran."""

import re

EVERYTHING = {
    "check-params",
    "fetch",
    "await-data@travel",
    "await-data@cooking",
    "prepare@travel",
    "prepare@cooking",
    "quantize",
    "finetune@travel",
    "finetune@cooking",
    "auto-opt@cpu-int4",
    "convert-adapter@travel-cpu-int4",
    "convert-adapter@cooking-cpu-int4",
    "smoke-infer@travel-cpu-int4",
    "smoke-infer@cooking-cpu-int4",
    "reference-base",
    "reference@travel",
    "reference@cooking",
    "evaluate@travel-cpu-int4",
    "evaluate@cooking-cpu-int4",
    "evaluate-base@cpu-int4",
    "gate@cpu-int4",
    "register@cpu-int4",
}
# What has code of the project's.
SCRIPTED = {name for name in EVERYTHING if not name.startswith("await-data@")}
AFTER_TRAVEL = {
    "await-data@travel",
    "prepare@travel",
    "finetune@travel",
    "convert-adapter@travel-cpu-int4",
    "smoke-infer@travel-cpu-int4",
    "reference@travel",
    "evaluate@travel-cpu-int4",
    "gate@cpu-int4",
    "register@cpu-int4",
}


def ran(output: str) -> set[str]:
    """The stages that DVC says it ran, in what `dvc repro` printed."""
    return set(re.findall(r"^Running stage '([^']+)':", output, re.M))
