"""Each sabotage fits the code, so that .ci/run, which proves that it is noticed, does not find out last."""

from __future__ import annotations

import pytest

from tests.sabotage.__main__ import ROOT
from tests.sabotage.patches import PATCHES, Patch


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_a_sabotage_fits_the_code(patch: Patch) -> None:
    found = {name: (ROOT / name).read_text().count(text) for name, text, _ in patch.edits}

    assert found == dict.fromkeys(found, 1)
    assert [test for test in patch.tests if not (ROOT / test.partition("::")[0]).exists()] == []
