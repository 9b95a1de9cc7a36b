"""The sabotage run takes minutes; that its patches still fit the code is seen at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sabotage.patches import PATCHES, Patch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_a_sabotage_fits_the_code_exactly_once(patch: Patch) -> None:
    for name, text, instead in patch.edits:
        assert (ROOT / name).read_text().count(text) == 1, f"{name} holds the text of this patch not once"
        assert text != instead


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_a_sabotage_names_tests_that_there_are(patch: Patch) -> None:
    for name in patch.tests:
        assert (ROOT / name.partition("::")[0]).exists()
