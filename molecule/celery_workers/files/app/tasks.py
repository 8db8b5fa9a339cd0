"""Tasks that leave a trace in Redis each time they run."""

import os
import time

import redis
from celery import Celery

URL = os.environ["BROKER_URL"]
store = redis.Redis.from_url(URL)
celery = Celery("app", broker=URL)
celery.conf.update(
    task_ignore_result=True,
    task_default_queue="processing",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 7500},
    beat_schedule={"tick": {"task": "app.tasks.tick", "schedule": 1.0}},
)


@celery.task
def work(number: int, seconds: float = 0.05) -> None:
    time.sleep(seconds)
    store.rpush("runs", number)


@celery.task
def tick() -> None:
    store.rpush("ticks", int(time.time()))


@celery.task
def grow(megabytes: int) -> None:
    """Takes memory at the first try only."""
    if store.incr("grown") == 1:
        block = bytearray(megabytes * 1048576)
        for place in range(0, len(block), 4096):
            block[place] = 1
    store.set("grow-done", 1)


@celery.task
def probe() -> None:
    """What the sandbox lets a task do: write to the shared directory, and nowhere else."""
    with open("/srv/app/shared/probe", "w") as handle:
        handle.write("here")
    try:
        open("/srv/app/releases/1/probe", "w").close()
        store.set("probe", "open")
    except OSError:
        store.set("probe", "closed")
