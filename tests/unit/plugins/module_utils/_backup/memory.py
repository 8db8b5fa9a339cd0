"""A store in memory, a clock that stands still, and an agent that has both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from plugins.module_utils._backup.errors import DeniedError, ExistsError, NotFoundError, StoreError
from plugins.module_utils._backup.jobs import Agent
from plugins.module_utils._backup.progress import Progress
from plugins.module_utils._backup.settings import Job, Settings, StoreSettings
from plugins.module_utils._backup.stores import Entry, Unfinished

START = datetime(2026, 3, 1, 2, 0, 0, tzinfo=timezone.utc)


class Clock:
    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def pass_time(self, **passed: float) -> None:
        self.now += timedelta(**passed)


class MemoryStore:
    """@param fail: is asked before each call with its name and key; may raise"""

    def __init__(self, clock: Clock, **settings: Any) -> None:
        self.settings = StoreSettings(kind="local", path="/memory", prefix="pre/fix", **settings)
        self.clock = clock
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.uploads: dict[str, Unfinished] = {}
        self.calls: list[tuple[str, str]] = []
        self.fail: Callable[[str, str], None] = lambda call, key: None

    def called(self, call: str, key: str) -> None:
        self.calls.append((call, key))
        self.fail(call, key)

    def put(self, key: str, data: bytes) -> None:
        self.called("put", key)
        if key in self.objects and self.objects[key][0] != data:
            raise ExistsError(f"{key} exists")
        self.objects[key] = (data, self.clock())

    def begin(self, key: str, part_bytes: int) -> MemoryUpload:
        self.called("begin", key)
        return MemoryUpload(self, key, part_bytes)

    def read(self, key: str, start: int = 0) -> Iterator[bytes]:
        self.called("read", key)
        if key not in self.objects:
            raise NotFoundError(f"no {key}")
        data = self.objects[key][0]
        for offset in range(start, len(data), 1000):
            yield data[offset : offset + 1000]

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        self.called("list", prefix)
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > after:
                yield Entry(key, len(self.objects[key][0]), self.objects[key][1])

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.called("delete", key)
            self.objects.pop(key, None)

    def unfinished(self, prefix: str) -> Iterator[Unfinished]:
        self.called("unfinished", prefix)
        yield from [upload for upload in self.uploads.values() if upload.key.startswith(prefix)]

    def abort(self, upload: Unfinished) -> None:
        self.called("abort", upload.key)
        self.uploads.pop(upload.handle)

    def file(self, name: str) -> str:
        """The one key that ends so."""
        (key,) = [key for key in self.objects if key.endswith(name)]
        return key

    def replace(self, key: str, data: bytes) -> None:
        self.objects[key] = (data, self.objects[key][1])


class MemoryUpload:
    def __init__(self, store: MemoryStore, key: str, part_bytes: int) -> None:
        self.store, self.key, self.part_bytes = store, key, part_bytes
        self.parts: list[bytes] = []
        self.handle = f"upload{len(store.calls)}"
        store.uploads[self.handle] = Unfinished(key, self.handle, store.clock())

    def part(self, number: int, data: bytes | memoryview) -> None:
        self.store.called("part", self.key)
        assert number == len(self.parts) + 1
        assert all(len(part) == self.part_bytes for part in self.parts)
        self.parts.append(bytes(data))

    def complete(self) -> None:
        self.store.called("complete", self.key)
        self.store.objects[self.key] = (b"".join(self.parts), self.store.clock())
        del self.store.uploads[self.handle]

    def abort(self) -> None:
        self.store.called("abort", self.key)
        self.store.uploads.pop(self.handle, None)


def refuse(*calls: str, error: StoreError | None = None, key: str = "") -> Callable[[str, str], None]:
    """For C(MemoryStore.fail): these calls, on keys with this in them, fail."""

    def _refuse(call: str, its_key: str) -> None:
        if call in calls and key in its_key:
            raise error or DeniedError(f"{call} is not allowed")

    return _refuse


def printing(name: str, script: str, **options: Any) -> Job:
    """A job of kind command that stores what a shell script prints."""
    return Job(name, "command", options={"command": ["sh", "-c", script], **options})


class TestAgent(Agent):
    """An agent that keeps what it says; backups are not encrypted, so that no program is needed."""

    __test__ = False
    store: MemoryStore
    clock: Clock

    def __init__(self, folder: Path, *jobs: Job, **settings: Any) -> None:
        clock = Clock()
        store = MemoryStore(clock)
        made = Settings(
            host="h1",
            store=store.settings,
            jobs=jobs,
            state_dir=str(folder / "state"),
            scratch_dir=str(folder / "scratch"),
            **{"encrypted": False, **settings},
        )
        self.said: list[str] = []
        super().__init__(made, store, clock, self.said.append, Progress())
