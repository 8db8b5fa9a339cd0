"""The work. A message may arrive more than once (a worker was killed), its effect happens once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections import Counter
from typing import Any

import psycopg
import redis
from celery import Celery
from psycopg.types.json import Json

from app.settings import settings

celery = Celery("app", broker=settings.broker_url)
celery.conf.update(
    task_ignore_result=True,
    task_default_queue="processing",
    task_routes={"app.tasks.store_upload": {"queue": "upload"}},
    # A message leaves the queue when its task has ended, not when it begins; one whose worker died comes back.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": settings.visibility_timeout_seconds},
    beat_schedule={"heartbeat": {"task": "app.tasks.heartbeat", "schedule": settings.heartbeat_seconds}},
    timezone="UTC",
)

STEPS = 5
ROUNDS = 20_000
CHANNEL = "jobs:{}"


def database() -> psycopg.Connection[Any]:
    return psycopg.connect(settings.database_url, autocommit=True, connect_timeout=5)


def publisher() -> redis.Redis:
    return redis.Redis.from_url(settings.broker_url, socket_timeout=5)


@celery.task(bind=True, max_retries=None, retry_backoff=True, autoretry_for=(psycopg.OperationalError,))
def process(self: Any, job_id: str, pause: float = 0.2) -> None:
    """Measures a text and seals it with a chain of keyed hashes, a slow thing done in steps that can be watched."""
    with database() as connection, publisher() as channel:
        row = connection.execute(
            "UPDATE jobs SET status = 'running', attempts = attempts + 1, updated_at = now() "
            "WHERE id = %s AND status <> 'done' RETURNING text",
            (job_id,),
        ).fetchone()
        if row is None:
            return
        text: str = row[0]
        words = Counter(re.findall(r"\w+", text.lower()))
        seal = hashlib.sha256(text.encode()).digest()
        for step in range(1, STEPS + 1):
            for _round in range(ROUNDS // STEPS):
                seal = hmac.digest(settings.secret.encode(), seal, "sha256")
            time.sleep(pause)
            progress = step * 100 // STEPS
            if step < STEPS:
                connection.execute(
                    "UPDATE jobs SET progress = %s, updated_at = now() WHERE id = %s AND status = 'running'",
                    (progress, job_id),
                )
                tell(channel, job_id, "running", progress)
        result = {
            "characters": len(text),
            "words": sum(words.values()),
            "different_words": len(words),
            "most_common": words.most_common(3),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "seal": seal.hex(),
        }
        # Of two workers with the same message one gets here first; the other changes nothing.
        connection.execute(
            "UPDATE jobs SET status = 'done', progress = 100, completions = completions + 1, "
            "result = %s, updated_at = now() WHERE id = %s AND status <> 'done'",
            (Json(result), job_id),
        )
        tell(channel, job_id, "done", 100)


def tell(channel: redis.Redis, job_id: str, status: str, progress: int) -> None:
    channel.publish(CHANNEL.format(job_id), json.dumps({"id": job_id, "status": status, "progress": progress}))


@celery.task(bind=True, max_retries=None, retry_backoff=True, autoretry_for=(psycopg.OperationalError,))
def store_upload(self: Any, upload_id: str, name: str, content: str) -> None:
    """Writes a small file into the media directory; the same message twice writes the same file twice."""
    data = base64.b64decode(content)
    settings.media_dir.mkdir(parents=True, exist_ok=True)
    path = settings.media_dir / name
    temporary = path.with_name(f".{upload_id}.part")
    temporary.write_bytes(data)
    temporary.chmod(0o644)
    temporary.replace(path)
    with database() as connection:
        connection.execute(
            "INSERT INTO uploads (id, name, bytes) VALUES (%s, %s, %s) ON CONFLICT (id) DO NOTHING",
            (upload_id, name, len(data)),
        )


@celery.task(expires=60)
def heartbeat() -> None:
    """Shows that Beat and a worker live, and sends jobs again whose message was lost with a broker or a worker."""
    with database() as connection:
        connection.execute(
            "INSERT INTO heartbeats (name, beats, jobs) SELECT 'beat', 1, count(*) FROM jobs "
            "ON CONFLICT (name) DO UPDATE SET beats = heartbeats.beats + 1, jobs = excluded.jobs, at = now()"
        )
        stalled = connection.execute(
            "UPDATE jobs SET updated_at = now() WHERE status <> 'done' "
            "AND updated_at < now() - make_interval(secs => %s) RETURNING id",
            (settings.stalled_seconds,),
        ).fetchall()
    for (job_id,) in stalled:
        process.apply_async((str(job_id),), task_id=str(job_id))
