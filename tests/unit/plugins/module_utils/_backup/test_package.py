"""The package as a whole: it is copied to hosts and into modules, so it brings everything it needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[5] / "plugins/module_utils/_backup"
FILES = sorted(PACKAGE.glob("*.py"))


def test_it_is_flat() -> None:
    assert not [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_standard_library_is_imported_at_once(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    for node in tree.body:
        if isinstance(node, ast.Import):
            for name in node.names:
                assert name.name.split(".")[0] in sys.stdlib_module_names, f"{path.name} imports {name.name}"
        elif isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] in sys.stdlib_module_names, f"{path.name} imports {node.module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_import_within_it_is_relative(path: Path) -> None:
    assert "ansible" not in {
        (node.module or "").split(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and not node.level
    }


def test_the_agent_starts_under_its_other_name(tmp_path: Path) -> None:
    (tmp_path / "bulwark_backup").symlink_to(PACKAGE)
    words = [sys.executable, "-B", "-S", "-m", "bulwark_backup.cli", "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "restore" in done.stdout
