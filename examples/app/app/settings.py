"""Settings from the environment; nothing is read from files, nothing secret has a default."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    database_url: str
    broker_url: str
    secret: str
    media_dir: Path
    release: str
    visibility_timeout_seconds: int
    heartbeat_seconds: float
    stalled_seconds: int


def required(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SystemExit(f"{name} is not set; the application needs it in its environment.")
    return value


def load() -> Settings:
    return Settings(
        database_url=required("DATABASE_URL"),
        broker_url=required("BROKER_URL"),
        secret=required("APP_SECRET"),
        media_dir=Path(os.environ.get("MEDIA_DIR", "/srv/app/shared/media")),
        # The directory that a release is unpacked into names it.
        release=os.environ.get("RELEASE") or Path(__file__).resolve().parents[1].name,
        # Longer than the longest task, or Redis would hand a running job out a second time.
        visibility_timeout_seconds=int(os.environ.get("VISIBILITY_TIMEOUT_SECONDS", "7500")),
        heartbeat_seconds=float(os.environ.get("HEARTBEAT_SECONDS", "60")),
        stalled_seconds=int(os.environ.get("STALLED_SECONDS", "120")),
    )


settings = load()
