"""Where a release comes from: an in-toto statement with SLSA's provenance predicate, version 1.

https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1, built and checked by in-toto's own classes.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from olivepress import __version__
from olivepress.core.errors import PressError

if TYPE_CHECKING:
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    from in_toto_attestation.v1.statement import Statement

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:olive-press:dvc-repro:2"  # externalParameters: name, version, targets, params; see docs/releasing.md
BUILDER = "urn:olive-press:make-release"


def write_provenance(
    files: Mapping[str, str],
    *,
    parameters: dict[str, Any],
    commands: dict[str, str],
    commit: str,
    inputs: Mapping[str, str],
    byproducts: Mapping[str, str],
    image: str | None = None,
) -> str:
    """The statement as JSON text. ``files``, ``inputs`` and ``byproducts``: name -> SHA-256; ``commands``: by stage.

    ``commit`` is the git commit of the sources, ``image`` the SHA-256 of the container image, if one was used.
    """
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI

    def described(digests: Mapping[str, str]) -> list[dict[str, Any]]:
        return [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]

    dependencies = [{"name": "source", "digest": {"gitCommit": commit}}, *described(inputs)]
    if image:
        dependencies.append({"name": "container image", "digest": {"sha256": image.removeprefix("sha256:")}})
    provenance = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": parameters,
            "internalParameters": {"commands": commands},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"olivepress": __version__}},
            "byproducts": described(byproducts),
        },
    }
    ParseDict(provenance, Provenance())  # refuses a field that SLSA does not have
    statement = {"_type": STATEMENT_TYPE_URI, "subject": described(files), "predicateType": PREDICATE}
    text = json.dumps({**statement, "predicate": provenance}, indent=2, ensure_ascii=False) + "\n"
    read_provenance(text)
    return text


def read_provenance(text: str) -> "tuple[Statement, Provenance]":
    """The statement and its predicate; PressError if either is malformed or of another kind."""
    from google.protobuf.json_format import MessageToDict, Parse, ParseDict, ParseError
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    try:
        statement = Statement.copy_from_pb(Parse(text, Message()))
        statement.validate()
        if statement.pb.predicate_type != PREDICATE:
            raise ValueError(f"predicateType is {statement.pb.predicate_type!r}, not {PREDICATE}")
        return statement, ParseDict(MessageToDict(statement.pb.predicate), Provenance())
    except (ParseError, ValueError) as error:
        raise PressError(f"provenance.json: not a SLSA provenance statement ({error}).") from error
