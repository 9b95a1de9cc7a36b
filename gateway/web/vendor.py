"""Copies what pages need from npm's packages into static/vendor, with a manifest; for whoever updates them.

    cd gateway/web && npm ci && python3 vendor.py

The copies are committed, so that nobody who runs the gateway needs Node.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = HERE / "node_modules"
VENDOR = HERE / "static" / "vendor"
ICONS_TEMPLATE = HERE / "templates" / "icons.html"

FILES = (
    # name here, package, path in the package
    ("tabler.min.css", "@tabler/core", "dist/css/tabler.min.css"),
    ("htmx.min.js", "htmx.org", "dist/htmx.min.js"),
    ("inter-latin.woff2", "@fontsource-variable/inter", "files/inter-latin-wght-normal.woff2"),
    ("inter-latin-ext.woff2", "@fontsource-variable/inter", "files/inter-latin-ext-wght-normal.woff2"),
)

ICONS = (
    "activity", "alert-triangle", "arrow-left", "arrow-right", "check", "chevron-down", "chevron-left",
    "chevron-right", "clock", "code", "device-desktop", "filter", "key", "logout", "package", "plug-connected",
    "refresh", "search", "settings", "shopping-bag", "truck", "user", "webhook", "x",
)  # fmt: skip


def main() -> None:
    """Write static/vendor, its MANIFEST.json and the icons' template anew."""
    shutil.rmtree(VENDOR, ignore_errors=True)
    (VENDOR / "licences").mkdir(parents=True)
    entries = [_copied(name, package, path) for name, package, path in FILES]
    for package in sorted({package for _, package, _ in FILES} | {"@tabler/icons"}):
        (VENDOR / "licences" / f"{_plain(package)}.txt").write_text(_licence(package))
    ICONS_TEMPLATE.write_text(_icons())
    entries.append(
        {
            "name": "../../templates/icons.html",
            "package": "@tabler/icons",
            **_about("@tabler/icons"),
            "sha256": _sha256(ICONS_TEMPLATE),
        }
    )
    (VENDOR / "MANIFEST.json").write_text(json.dumps({"files": entries}, indent=2) + "\n")


def _copied(name: str, package: str, path: str) -> dict[str, str]:
    target = VENDOR / name
    content = (PACKAGES / package / path).read_bytes()
    # A source map is not shipped, and a browser's tools would ask for it.
    content = re.sub(rb"/\*# sourceMappingURL=.*?\*/\s*", b"", content)
    target.write_bytes(content)
    if not name.endswith(".woff2"):
        # WhiteNoise serves it to browsers that take gzip; without a time in it, each run gives the same bytes.
        target.with_name(f"{name}.gz").write_bytes(gzip.compress(content, 9, mtime=0))
    return {"name": name, "package": package, **_about(package), "sha256": _sha256(target)}


def _about(package: str) -> dict[str, str]:
    found = json.loads((PACKAGES / package / "package.json").read_text())
    return {"version": found["version"], "licence": found["license"]}


def _licence(package: str) -> str:
    if package == "@tabler/core":
        # The package carries no text of its own: its stylesheet names the authors, the icons' licence has the words.
        css = (PACKAGES / package / "dist/css/tabler.min.css").read_text()
        authors = re.findall(r"Copyright 2018[^\n]*", css)
        words = (PACKAGES / "@tabler/icons/LICENSE").read_text()
        return re.sub(r"Copyright \(c\)[^\n]*", "\n".join(authors[:2]), words)
    return (PACKAGES / package / "LICENSE").read_text()


def _icons() -> str:
    """One Jinja macro that holds every icon, so that a page asks for none."""
    lines = [
        "{# Made by vendor.py from Tabler Icons (MIT); see static/vendor/MANIFEST.json. #}",
        "{% set drawings = {",
    ]
    for name in ICONS:
        svg = (PACKAGES / "@tabler/icons/icons/outline" / f"{name}.svg").read_text()
        drawing = " ".join(re.findall(r"<(?:path|circle|rect|line)[^>]*/>", svg.split("<svg", 1)[1]))
        lines.append(f"  '{name}': '{drawing}',")
    lines += [
        "} %}",
        "{% macro icon(name) %}"
        '<svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75"'
        ' stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">'
        "{{ drawings[name] | safe }}</svg>{% endmacro %}",
        "",
    ]
    return "\n".join(lines)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(package: str) -> str:
    return package.replace("@", "").replace("/", "-")


if __name__ == "__main__":
    main()
