"""What changed from one content of a part to the next, field by field."""

from __future__ import annotations

from typing import Any

import msgspec

MAX_FIELDS = 200
"""An edit of 260 lines is told in so many rows; the rest is told by their number."""


def differences(old: bytes | None, new: bytes) -> list[list[Any]]:
    """[field, from, to] for each leaf that differs; list entries with an id are told by it."""
    before = msgspec.json.decode(old) if old else {}
    rows: list[list[Any]] = []
    _compare("", before, msgspec.json.decode(new), rows)
    if len(rows) > MAX_FIELDS:
        rows = [*rows[:MAX_FIELDS], ["…", None, len(rows) - MAX_FIELDS]]
    return rows


def _compare(path: str, old: Any, new: Any, rows: list[list[Any]]) -> None:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in new | old:
            _compare(f"{path}.{key}" if path else key, old.get(key), new.get(key), rows)
    elif _keyed(old) and _keyed(new):
        before = {entry["id"]: entry for entry in old}
        after = {entry["id"]: entry for entry in new}
        for key in [*after, *(key for key in before if key not in after)]:
            _compare(f"{path}[{key}]", before.get(key), after.get(key), rows)
    else:
        rows.append([path, old, new])


def _keyed(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) and "id" in entry for entry in value)
