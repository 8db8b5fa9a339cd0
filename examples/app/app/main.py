"""The HTTP side: takes jobs and files, shows their state, streams their progress."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import psycopg
import redis
import redis.asyncio
from fastapi import FastAPI, HTTPException, Query, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, JSONResponse
from kombu.exceptions import OperationalError as BrokerError
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from pydantic import BaseModel, Field
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.concurrency import run_in_threadpool

from app import tasks
from app.settings import settings

UPLOAD_BYTES = 1_000_000
SUFFIXES = {".txt", ".csv", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".webp"}
PAGE = Path(__file__).with_name("index.html").read_text(encoding="utf-8")
COLUMNS = "id, status, progress, attempts, completions, result, created_at, updated_at"

pool = AsyncConnectionPool(
    settings.database_url,
    min_size=1,
    max_size=8,
    timeout=3,
    open=False,
    # Connections that a restart of the database cut are replaced instead of handed out.
    check=AsyncConnectionPool.check_connection,
    kwargs={"row_factory": dict_row},
)
# One more try, on a new connection: Redis closes those that were idle for some minutes.
broker = redis.asyncio.Redis.from_url(settings.broker_url, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    await pool.open()
    yield
    await pool.close()
    await broker.aclose()


app = FastAPI(title="Text laboratory", version=settings.release, lifespan=lifespan)


class NewJob(BaseModel):
    text: str = Field(min_length=1, max_length=100_000)


async def fetch(query: str, *values: Any) -> list[dict[str, Any]]:
    async with pool.connection() as connection:
        cursor = await connection.execute(query, values)
        return await cursor.fetchall() if cursor.description else []


@app.exception_handler(PoolTimeout)
@app.exception_handler(psycopg.OperationalError)
async def database_away(_request: Any, _exc: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The database does not answer."}, status_code=503, headers={"Retry-After": "5"})


@app.get("/health")
async def health() -> JSONResponse:
    """200 only if a job could be taken now: the database and the broker answer within two seconds."""

    async def check(what: Any) -> str:
        try:
            await asyncio.wait_for(what, 2)
        except Exception as exc:
            return type(exc).__name__
        return "ok"

    database, queue = await asyncio.gather(check(fetch("SELECT 1 FROM jobs LIMIT 1")), check(broker.ping()))
    good = database == queue == "ok"
    body = {"status": "ok" if good else "failing", "release": settings.release, "database": database, "broker": queue}
    return JSONResponse(body, status_code=200 if good else 503)


@app.post("/jobs", status_code=202)
async def create_job(job: NewJob) -> dict[str, str]:
    job_id = str(uuid.uuid4())
    await fetch("INSERT INTO jobs (id, text) VALUES (%s, %s)", job_id, job.text)
    try:
        # Bounded: a broker that is away must not hold the request. The heartbeat sends such a job later.
        await run_in_threadpool(tasks.process.apply_async, (job_id,), task_id=job_id, retry=False)
    except (BrokerError, redis.RedisError, OSError):
        return {"id": job_id, "status": "queued", "note": "The queue does not answer; the job will start later."}
    return {"id": job_id, "status": "queued"}


@app.get("/jobs")
async def list_jobs(limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[dict[str, Any]]:
    return await fetch(f"SELECT {COLUMNS}, left(text, 80) AS text FROM jobs ORDER BY created_at DESC LIMIT %s", limit)


@app.get("/jobs/{job_id}")
async def show_job(job_id: uuid.UUID) -> dict[str, Any]:
    found = await fetch(f"SELECT {COLUMNS} FROM jobs WHERE id = %s", job_id)
    if not found:
        raise HTTPException(404, "There is no such job.")
    return found[0]


@app.websocket("/jobs/{job_id}/follow")
async def follow_job(socket: WebSocket, job_id: uuid.UUID) -> None:
    """Sends id, status and progress at each step and ends with the result. The row is the truth, the channel a bell."""
    await socket.accept()
    gone = asyncio.create_task(disconnected(socket))
    last = None
    try:
        async with broker.pubsub() as channel:
            await channel.subscribe(tasks.CHANNEL.format(job_id))
            while not gone.done():
                found = await fetch("SELECT status, progress, result FROM jobs WHERE id = %s", job_id)
                if not found:
                    await socket.close(4404, "There is no such job.")
                    return
                state = {"id": str(job_id), **found[0]}
                if state != last:
                    await socket.send_text(json.dumps(state))
                    last = state
                if state["status"] == "done":
                    await socket.close()
                    return
                until = time.monotonic() + 2
                while time.monotonic() < until:
                    if await channel.get_message(ignore_subscribe_messages=True, timeout=2):
                        break
    except WebSocketDisconnect:
        return
    except (psycopg.Error, PoolTimeout, redis.RedisError):
        await socket.close(1013, "Try again later.")
    finally:
        gone.cancel()


async def disconnected(socket: WebSocket) -> None:
    """Ends when the client has gone; what it sends is not of interest."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


@app.post("/uploads", status_code=202)
async def create_upload(file: UploadFile) -> dict[str, str]:
    suffix = Path(file.filename or "").suffix.lower()
    if suffix not in SUFFIXES:
        raise HTTPException(415, f"Only these are taken: {', '.join(sorted(SUFFIXES))}.")
    data = await file.read(UPLOAD_BYTES + 1)
    if len(data) > UPLOAD_BYTES:
        raise HTTPException(413, f"A file may have {UPLOAD_BYTES} bytes.")
    # The content names the file: nobody chooses a path, and the same file twice is one file.
    name = hashlib.sha256(data).hexdigest()[:32] + suffix
    upload_id = str(uuid.uuid4())
    content = base64.b64encode(data).decode()
    try:
        await run_in_threadpool(tasks.store_upload.apply_async, (upload_id, name, content), retry=False)
    except (BrokerError, redis.RedisError, OSError) as exc:
        raise HTTPException(
            503, "The queue does not answer; nothing was stored.", headers={"Retry-After": "5"}
        ) from exc
    return {"id": upload_id, "url": f"/media/{name}"}


@app.get("/uploads/{upload_id}")
async def show_upload(upload_id: uuid.UUID) -> dict[str, Any]:
    found = await fetch("SELECT id, name, bytes, stored_at FROM uploads WHERE id = %s", upload_id)
    if not found:
        raise HTTPException(404, "It is not stored yet.")
    return found[0]


@app.get("/heartbeat")
async def show_heartbeat() -> dict[str, Any]:
    found = await fetch("SELECT name, beats, jobs, at FROM heartbeats WHERE name = 'beat'")
    if not found:
        raise HTTPException(404, "Beat has not been heard yet.")
    return found[0]


@app.get("/", response_class=HTMLResponse)
async def page() -> str:
    return PAGE
