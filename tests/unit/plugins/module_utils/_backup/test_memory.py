from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup.memory import free_memory


@pytest.mark.parametrize(("limit", "expected"), [("max", 8 * 2**30), ("1000000", 400000 + 100000)])
def test_the_limit_of_a_unit_counts(tmp_path: Path, limit: str, expected: int) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * 2**20} kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/a.slice/b.service\n")
    unit = tmp_path / "cg/a.slice/b.service"
    unit.mkdir(parents=True)
    files: dict[str, Any] = {
        "memory.max": limit,
        "memory.current": 600000,
        "memory.stat": "anon 5\ninactive_file 100000\n",
    }
    for name, text in files.items():
        (unit / name).write_text(str(text))
    assert free_memory(tmp_path / "cg", tmp_path / "proc") == expected
