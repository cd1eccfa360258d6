"""What is said to be proved of each file of an exported model."""

import platform

from olivepress.core.artifact import LIBRARIES, MODEL, OPERATORS, library_for
from olivepress.core.proof import (
    ELSEWHERE,
    EVALUATED,
    EXPORTED,
    LEVELS,
    RUN,
    STRUCTURE,
    proved_by_evaluation,
    proved_by_export,
)


def model_folder(folder, *names):
    for name in (MODEL, *names):
        (folder / name).touch()
    return folder


def test_what_was_not_computed_is_not_said_to_have_run(tmp_path):
    folder = model_folder(tmp_path, *LIBRARIES.values())
    assert proved_by_export(folder, computed=False) == {MODEL: STRUCTURE, **dict.fromkeys(LIBRARIES.values(), EXPORTED)}


def test_only_this_machines_library_has_run(tmp_path):
    own = library_for(platform.machine())
    (other,) = set(LIBRARIES.values()) - {own}
    found = proved_by_export(model_folder(tmp_path, OPERATORS, *LIBRARIES.values()), computed=True)
    assert found == {MODEL: RUN, OPERATORS: RUN, own: RUN, other: EXPORTED}
    assert proved_by_evaluation(found, [MODEL]) == {**found, MODEL: EVALUATED}
    assert proved_by_evaluation(found, [MODEL, OPERATORS]) == {**found, MODEL: EVALUATED, OPERATORS: EVALUATED}
    assert set(found.values()) | {EVALUATED, STRUCTURE, ELSEWHERE} == set(LEVELS)


def test_what_the_cpu_computed_in_anothers_place_has_not_run(tmp_path):
    assert proved_by_export(model_folder(tmp_path), computed=True, elsewhere=True) == {MODEL: ELSEWHERE}
    assert proved_by_export(tmp_path, computed=False, elsewhere=True) == {MODEL: STRUCTURE}
