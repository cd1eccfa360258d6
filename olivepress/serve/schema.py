"""JSON schemas as an answer is held to them: an object has the properties that are named, and no others.

By JSON Schema it may have any others unless `additionalProperties` says no, and a small model that may go on does: it
invents properties until its tokens are used up. OpenAI's strict mode wants it said; here it need not be.
"""

from typing import Any

NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")  # name -> schema
LISTED = ("anyOf", "oneOf", "prefixItems")  # not allOf: its parts name properties of one object
SINGLE = ("items", "additionalProperties", "contains")
OPEN = ("additionalProperties", "unevaluatedProperties", "patternProperties", "allOf", "$ref")


def closed(schema: Any) -> Any:
    """A copy whose objects have no other properties than those named, except where the schema speaks of others."""
    if not isinstance(schema, dict):
        return schema
    found = {name: _closed_part(name, part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and not any(name in schema for name in OPEN):
        found["additionalProperties"] = False
    return found


def _closed_part(name: str, part: Any) -> Any:
    if name in NAMED and isinstance(part, dict):
        return {key: closed(value) for key, value in part.items()}
    if name in LISTED and isinstance(part, list):
        return [closed(value) for value in part]
    return closed(part) if name in SINGLE else part
