"""The header of a model card, as model hubs read it: what the model is, and its metrics as a model-index."""

import re
from typing import Any

from olivepress.core.errors import PressError

# The licences that the Hugging Face hub knows by a name of its own (its documentation, "Licenses"); of GNU's licences
# it knows no "-only" and "-or-later".
HUB_LICENCES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd
bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0
cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m
deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1
lgpl-3.0 lgpl-lr llama2 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 pddl postgresql
unlicense wtfpl zlib
"""
HUB_SOURCE = re.compile(r"hf://([\w.-]+/[\w.-]+)@")


def licence_fields(licence: str, licence_files: list[str]) -> dict[str, str]:
    """``license`` and, for one that the hub has no name for, ``license_name`` and ``license_link``.

    ``licence``: as in params. ``licence_files``: paths of its text in the release, if it came with one.
    """
    known = re.sub(r"-(only|or-later)$", "", licence.lower())
    if known in HUB_LICENCES.split():
        return {"license": known}
    fields = {"license": "other", "license_name": re.sub(r"[^a-z0-9.+]+", "-", licence.lower()).strip("-")}
    return fields | ({"license_link": licence_files[0]} if licence_files else {})


def base_model(source: str) -> str | None:
    """The base's name on the hub; None for one that came from elsewhere: a folder's path means nothing to others."""
    found = HUB_SOURCE.match(source)
    return found[1] if found else None


def render_header(
    name: str,
    *,
    licence: dict[str, str],
    base: str | None,
    tags: list[str],
    metrics: list[tuple[str, str, str, float]],
) -> str:
    """The YAML between the two lines of dashes, which are part of it; the same bytes for the same arguments.

    ``metrics``: (data set, the hub's metric type, the metric's name, value) each; one that is no finite number has no
    place in a model-index, so PressError.
    """
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=data,
            dataset_name=f"{data}, held-out rows",
            dataset_split="held-out",
            metric_type=kind,
            metric_name=title,
            metric_value=_finite(value, f"{title} of {data}"),
        )
        for data, kind, title, value in metrics
    ]
    relation: dict[str, Any] = {"base_model_relation": "quantized"} if base else {}
    header = ModelCardData(
        base_model=base,
        **relation,
        **licence,
        pipeline_tag="text-generation",
        library_name="onnxruntime-genai",
        tags=tags,
        model_name=name,
        eval_results=results or None,
    )
    return f"---\n{header.to_yaml(line_break=chr(10))}\n---\n"


def _finite(value: float, what: str) -> float:
    if not abs(value) < float("inf"):
        raise PressError(f"{what} is {value}: a model with such a metric is not released.")
    return value
