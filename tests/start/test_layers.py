"""Who may import whom (pyproject.toml, [tool.importlinter])."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_import_goes_downwards() -> None:
    tool = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run(
        [sys.executable, str(tool), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_packages_that_promise_to_import_nothing_import_nothing() -> None:
    for name in ("gateway/__init__.py", "gateway/db/__init__.py", "config/__init__.py"):
        text = (ROOT / name).read_text()
        assert "import " not in text.replace("Imports nothing", ""), name


def test_gunicorns_master_loads_nothing_that_gevent_must_patch_first() -> None:
    code = (
        "import sys, config.gunicorn as g; "
        "print([m for m in ('ssl', 'psycopg', 'requests', 'app') if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_domain_uses_the_standard_library_only() -> None:
    foreign = {
        f"{path.name}: {name}"
        for path in (ROOT / "gateway" / "domain").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _imported(node)
        if name not in sys.stdlib_module_names and name != "gateway"
    }

    assert foreign == set()


def _imported(node: object) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module.split(".")[0]}
    return set()
