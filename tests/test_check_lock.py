"""A release is made in the environment that its lock describes, whatever way the lock is written."""

from importlib.metadata import version

import pytest

from olivepress.core.errors import PressError
from olivepress.release.sbom import check_lock

CLICK = version("click")


@pytest.mark.parametrize(
    "text",
    [
        f"click=={CLICK}\n",
        f"# compiled\n--index-url somewhere\n\nclick=={CLICK} \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n",
        f"click=={CLICK} --hash=sha256:00\n",
        "nosuch==1 ; sys_platform == 'nowhere'\n",
    ],
)
def test_a_lock_that_fits(tmp_path, text):
    (tmp_path / "lock.txt").write_text(text)
    check_lock(tmp_path / "lock.txt")


def test_what_differs_is_named(tmp_path):
    (tmp_path / "lock.txt").write_text(f"nosuch==1 \\\n    --hash=sha256:00\nclick=={CLICK}.1\n")
    with pytest.raises(PressError, match=rf"nosuch==1 \(not installed\), click=={CLICK}\.1 \({CLICK}\)"):
        check_lock(tmp_path / "lock.txt")
