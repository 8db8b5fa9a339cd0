"""A backup that is kept in memory: what a kind's streams give, and what its drill and restore are fed with."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._backup.errors import DrillError
from plugins.module_utils._backup.kinds import Command, Context, kind_of
from plugins.module_utils._backup.manifest import Manifest, Member
from plugins.module_utils._backup.settings import Job, Settings, StoreSettings


class MemoryBackup:
    """Runs the streams of a job in pieces of odd sizes, and keeps them."""

    def __init__(self, context: Context) -> None:
        self.data: dict[str, bytes] = {}
        self.said: list[str] = []
        members: dict[str, Any] = {}
        for stream in kind_of(context.job).streams(context):
            command = stream.command
            done = subprocess.run(command.argv, capture_output=True, env=dict(command.env) or None, cwd=command.cwd)
            assert done.returncode in stream.ok_status, done.stderr.decode()
            stream.status, stream.said = done.returncode, done.stderr.decode()
            self.data[stream.name] = done.stdout
            members[stream.name] = stream
            if stream.tap:
                for start in range(0, len(done.stdout), 1021):
                    stream.tap(done.stdout[start : start + 1021])
        self.manifest = Manifest(
            host="h1",
            job=context.job.name,
            kind=context.job.kind,
            backup="20260101T020000Z-00000000",
            started="2026-01-01T02:00:00Z",
            finished="2026-01-01T02:00:01Z",
            members=tuple(
                Member(name, f"{name}.zst", len(self.data[name]), "", 0, "", dict(stream.evidence))
                for name, stream in members.items()
            ),
        )

    def feed(self, member: str, command: Command) -> None:
        done = subprocess.run(
            command.argv, input=self.data[member], capture_output=True, env=dict(command.env) or None, cwd=command.cwd
        )
        if done.returncode:
            raise DrillError(done.stderr.decode())


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., Context]:
    """What a kind gets for a job: C(context("files", paths=[…])); what it says is in C(context.lines)."""
    lines: list[str] = []

    def _context(kind: str, **options: Any) -> Context:
        scratch = tmp_path / f"scratch{len(list(tmp_path.glob('scratch*')))}"
        scratch.mkdir()
        settings = Settings(host="h1", store=StoreSettings(kind="local"), state_dir=str(tmp_path / "state"))
        return Context(settings, Job("job", kind, options=options), scratch, lines.append)

    _context.lines = lines  # type: ignore[attr-defined]
    return _context


@pytest.fixture
def taken() -> Callable[[Context], MemoryBackup]:
    return MemoryBackup
