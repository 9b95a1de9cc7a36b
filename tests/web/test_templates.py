"""Every string for people goes through gettext, in the templates too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).resolve().parents[2] / "gateway" / "web" / "templates"
NAMES = {"UTC", "Shopify", "WooCommerce", "Etsy"}
EXAMPLES = r"shop\.example|ck_…|cs_…"
SPOKEN = r'\b(?:aria-label|title|placeholder|alt)="([^"]*)"'
JINJA = r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}"
GETTEXT = r"""\b(?:_|ngettext)\(\s*(?:"[^"]*"|'[^']*')(?:,\s*"[^"]*")?"""


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.glob("*.html")))
def test_no_word_for_people_stands_outside_gettext(name: str) -> None:
    page = (TEMPLATES / name).read_text(encoding="utf-8")
    plain = re.sub(rf"<!--.*?-->|<svg.*?</svg>|<symbol.*?</symbol>|{JINJA}|{EXAMPLES}", "", page, flags=re.S)
    inside = re.sub(GETTEXT, "", " ".join(re.findall(JINJA, page, flags=re.S)))

    shown = re.sub(r"<[^>]*>|&\w+;", " ", plain)
    spoken = " ".join(re.findall(SPOKEN, plain))
    sentences = [text for text in re.findall(r'"([^"]*)"', inside) if re.search(r"[^\W\d_] [^\W\d_]", text)]

    assert set(re.findall(r"[^\W\d_]{2,}", f"{shown} {spoken}")) - NAMES == set()
    assert sentences == []
