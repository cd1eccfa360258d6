"""What a base's README.md declares, and that one which was written to hang or to fill the memory declares nothing."""

import pytest

from olivepress.core import limits
from olivepress.fetch import model_card

BOMB = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("license: mit", "mit"),
        ("license: other", None),
        ("license: [mit]", None),
        ("- license", None),
        ("license: !!python/object/apply:os.getcwd []", None),
        ("license: " + "[" * 5000, None),
        ("license: mit\na: " + "[" * 5000 + "]" * 5000, None),
        (BOMB + "license: mit", None),
        ("\n" * 3_000_000, None),
    ],
    ids=range(9),
)
def test_a_header_declares_a_licence_or_nothing_in_bounded_time(tmp_path, monkeypatch, header, expected):
    monkeypatch.setattr(limits, "SECONDS", 0.5)
    (tmp_path / "README.md").write_text(f"---\n{header}\n---\n# A model\n")
    assert model_card.declared_licence(tmp_path) == expected
