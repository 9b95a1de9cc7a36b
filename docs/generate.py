"""Write the pages that follow from code: `python docs/generate.py` (a test holds them against it)."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from config.settings import Settings  # noqa: E402 - the project's root must be found first
from gateway.domain.problems import CATALOGUE  # noqa: E402 - the same

WHO = {"merchant": "the merchant", "operator": "whoever runs the gateway", "us": "the gateway's makers"}


def errors() -> str:
    """docs/errors.md: the catalogue of problems."""
    lines = ["# Problems", "", "What can go wrong, why, and what to do. The code is stable: pages, API, CLI and logs"
             " use the same.", ""]  # fmt: skip
    for problem in sorted(CATALOGUE.values(), key=lambda problem: problem.code):
        lines += [
            f"## {problem.code}", "", f"**{problem.title}.** {problem.cause}", "", f"What to do: {problem.fix}", "",
            f"Who acts: {WHO[problem.who]}. Trying again: {problem.retry.replace('_', ' ')}.", "",
        ]  # fmt: skip
    return "\n".join(lines)


def settings() -> str:
    """docs/settings.md: every variable of the environment."""
    lines = [
        "# Settings",
        "",
        "Read from the environment at start; each can also come from a file, as NAME_FILE."
        " `python3 -m gateway run` needs none of them.",
        "",
        "| variable | default | what |",
        "|---|---|---|",
    ]
    for field in dataclasses.fields(Settings):
        default = "" if field.default in (None, "", ()) else f"`{field.default}`"
        secret = " (secret)" if field.metadata["secret"] else ""
        lines.append(f"| {field.name.upper()} | {default} | {field.metadata['about']}{secret} |")
    return "\n".join([*lines, ""])


PAGES = {"errors.md": errors, "settings.md": settings}

if __name__ == "__main__":
    for name, write in PAGES.items():
        (HERE / name).write_text(write(), encoding="utf-8")
