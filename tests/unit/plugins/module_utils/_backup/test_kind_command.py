from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup import kind_command
from plugins.module_utils._backup.errors import DrillError, SettingsError, SourceError


def test_round_trip(context: Any, taken: Any, tmp_path: Path) -> None:
    back = tmp_path / "back"
    there = context(
        "command",
        command=["printf", "data"],
        member="data.txt",
        drill_command=["sh", "-c", "grep -q data"],
        restore_command=["sh", "-c", f"cat > {back}"],
    )
    backup = taken(there)
    assert [check.ok for check in kind_command.drill(there, backup)] == [True]
    kind_command.restore(there, backup, {})
    assert back.read_text() == "data"
    failing = {**there.job.options, "restore_command": ["false"]}
    with pytest.raises(DrillError):
        kind_command.restore(replace(there, job=replace(there.job, options=failing)), backup, {})


def test_nothing_is_no_backup(context: Any, taken: Any) -> None:
    with pytest.raises(SourceError, match="printed nothing"):
        taken(context("command", command=["true"]))


def test_without_commands_the_bytes_are_read_and_nothing_is_restored(context: Any, taken: Any) -> None:
    there = context("command", command=["echo", "x"])
    assert [check.ok for check in kind_command.drill(there, taken(there))] == [True]
    with pytest.raises(SettingsError, match="restore_command"):
        kind_command.restore(there, taken(there), {})
