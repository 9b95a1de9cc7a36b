"""Prove that the tests would notice: break one promise at a time in a copy of this checkout, and run its tests.

`python -m tests.sabotage [name …]`; exits with 1 when a sabotage went unnoticed, or no longer fits the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.db.bundled import BundledServer
from tests.sabotage.patches import PATCHES, Patch

ROOT = Path(__file__).resolve().parents[2]
TESTS_FAILED = 1
"""pytest's exit code for tests that ran and failed; everything above it is pytest's own trouble."""


def main(names: list[str]) -> int:
    unknown = set(names) - {patch.name for patch in PATCHES}
    if unknown:
        _say(f"There is no sabotage {', '.join(sorted(unknown))}; there are: {', '.join(p.name for p in PATCHES)}")
        return 2
    chosen = [patch for patch in PATCHES if not names or patch.name in names]
    folder = Path(tempfile.mkdtemp(prefix="gateway-sabotage-"))
    folder.chmod(0o755)
    server = BundledServer(folder / "data", durable=False)
    try:
        url = server.start()
        with ThreadPoolExecutor(2) as pool:
            failures = [why for why in pool.map(lambda patch: _unnoticed(patch, folder, url), chosen) if why]
    finally:
        server.stop(immediate=True)
        shutil.rmtree(folder, ignore_errors=True)
    _say(f"{len(chosen) - len(failures)} of {len(chosen)} sabotages were noticed")
    return 1 if failures else 0


def _unnoticed(patch: Patch, folder: Path, database_url: str) -> str:
    """Why this sabotage proves a hole; empty when a test failed as it must."""
    copy = folder / patch.name
    _copy(copy)
    why = _apply(patch, copy)
    if not why:
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            *patch.tests,
        ]
        environment = {**os.environ, "TEST_DATABASE_URL": database_url, "HYPOTHESIS_PROFILE": "sabotage"}
        done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
        if done.returncode == TESTS_FAILED and failed:
            _say(f"noticed    {patch.name}: {failed[0].removeprefix('FAILED ').partition(' - ')[0]}")
        else:
            why = f"pytest ended with {done.returncode}\n{(done.stdout + done.stderr)[-1500:]}"
    if why:
        _say(f"UNNOTICED  {patch.name} ({patch.promise}): {why}")
    shutil.rmtree(copy, ignore_errors=True)
    return why


def _copy(target: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def _apply(patch: Patch, copy: Path) -> str:
    for name, text, instead in patch.edits:
        path = copy / name
        content = path.read_text()
        if content.count(text) != 1:
            return f"the patch no longer fits: {name} holds its text {content.count(text)} times"
        path.write_text(content.replace(text, instead))
    return ""


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
