"""The pinned files: each pin has hashes, and no file names a registry's host."""

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINNED = sorted(ROOT.glob("requirements*.txt"))


def _pins(text: str) -> list[str]:
    """Each requirement with its continuation lines, as one."""
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.name)
def test_every_pin_is_exact_and_has_a_hash(path: Path) -> None:
    pins = _pins(path.read_text())

    assert pins
    assert [pin for pin in pins if not re.match(r"[\w.\[\]-]+==\S+ ", pin)] == []
    assert [pin for pin in pins if "--hash=sha256:" not in pin] == []


def test_no_pinned_file_names_a_host() -> None:
    locks = [path for path in ROOT.rglob("package-lock.json") if not {".venv", "node_modules"} & set(path.parts)]
    files = [*sorted(ROOT.glob("requirements*")), *locks]

    # A lock's funding and homepage links are not where packages come from; "resolved" is.
    named = {
        path.name: lines
        for path in files
        if (lines := [line for line in path.read_text().splitlines() if "://" in line and '"url"' not in line])
    }

    assert named == {}


def test_larger_sets_hold_the_smaller_ones_at_the_same_versions() -> None:
    sets = [
        {pin.split("==")[0]: pin.split("==")[1].split()[0] for pin in _pins((ROOT / name).read_text())}
        for name in ("requirements.txt", "requirements-demo.txt", "requirements-dev.txt")
    ]

    for smaller, larger in itertools.pairwise(sets):
        assert smaller.items() <= larger.items()
