"""Docs that follow from code are current, and what the README says to type is there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))["PAGES"]


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_generated_pages_are_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == GENERATED[name](), "run: python docs/generate.py"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "ARCHITECTURE.md",
        "docs/connect.md",
        "docs/connect-woocommerce.md",
        "docs/connect-etsy.md",
        "docs/connect-shopify.md",
        "docs/operate.md",
    ],
)
def test_links_of_the_first_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]

    assert targets
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []


def test_the_reviewers_list_names_tests_that_exist() -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", (ROOT / "docs" / "app-review.md").read_text(encoding="utf-8"))

    assert len(named) > 10
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"
