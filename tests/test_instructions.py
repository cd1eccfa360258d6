"""What a benchmark holds to AVX2: a model with another library, which is vouched for; one back end of llama.cpp."""

import platform

import pytest

from benchmarks.instructions import BACKEND, with_backend, with_library
from olivepress.core.artifact import LIBRARIES, MODEL, library_for
from olivepress.core.errors import PressError
from olivepress.runtime.trust import check_library, library_is_known

pytestmark = pytest.mark.unit


def test_the_other_library_is_known_where_it_lies_and_the_model_is_as_it_was(tmp_path):
    model, built = tmp_path / "model", tmp_path / "built.so"
    model.mkdir()
    for name in (MODEL, *LIBRARIES.values()):
        (model / name).write_text(name)
    built.write_text("for AVX2")
    own = library_for(platform.machine())
    for name in ("first", "second", "first"):
        with_library(model, built, tmp_path / "held" / name)
    assert (model / own).read_text() == own
    for name in ("first", "second"):
        out = tmp_path / "held" / name
        assert (out / own).read_text() == "for AVX2"
        assert (out / MODEL).samefile(model / MODEL)
        assert library_is_known(out, own)
        check_library(out)
    with pytest.raises(PressError, match="nobody vouches"):
        check_library(model)


def test_llama_cpp_has_one_back_end_left(tmp_path):
    names = ("libllama.v0.5.0.so", "libggml.v0.5.0.so", "libggml-base.so", "libggml-cpu-zen4.so", BACKEND)
    llama = tmp_path / "llama"
    llama.mkdir()
    for name in names:
        (llama / name).touch()
    for _ in range(2):
        with_backend(llama, tmp_path / "held")
        assert {path.name for path in (tmp_path / "held").iterdir()} == {*names} - {"libggml-cpu-zen4.so"}
    (llama / BACKEND).unlink()
    with pytest.raises(PressError, match=f"no {BACKEND} there"):
        with_backend(llama, tmp_path / "held")
