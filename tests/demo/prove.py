"""The proofs of the demo: everything is asked from outside the host, as a user or a stranger would."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from hosts import hosts
from hosts.stack import DOMAIN, Stack
from websockets.sync.client import connect

TEXT = "the quick brown fox jumps over the lazy dog " * 20


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any) -> None:
        return None


class Site:
    """The demo seen from outside: TLS is checked against the ACME server's root and nothing else."""

    def __init__(self, stack: Stack) -> None:
        self.domain = DOMAIN
        self.context = ssl.create_default_context(cafile=str(stack.state / "ca.pem"))
        resolve = socket.getaddrinfo

        def pinned(host: Any, *rest: Any, **named: Any) -> Any:
            # The proof must hold where nobody may write /etc/hosts.
            return resolve(stack.ip if host == DOMAIN else host, *rest, **named)

        socket.getaddrinfo = pinned

    def ask(
        self, path: str, data: Any = None, scheme: str = "https", port: int = 443, headers: Any = None
    ) -> tuple[int, Any, str]:
        """Status, headers and body of one request; an HTTP error is an answer too."""
        port = 80 if scheme == "http" else port
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"{scheme}://{self.domain}:{port}{path}", data=body, headers=headers or {})
        if body:
            request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(NoRedirect, urllib.request.HTTPSHandler(context=self.context))
        try:
            with opener.open(request, timeout=15) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode(errors="replace")

    def job(self) -> dict[str, Any]:
        status, _, body = self.ask("/jobs", {"text": TEXT})
        if status != 202:
            raise AssertionError(f"POST /jobs answered {status}: {body[:200]}")
        return json.loads(body)

    def look_up(self, job: int | str) -> dict[str, Any]:
        return json.loads(self.ask(f"/jobs/{job}")[2])

    def finished(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job when a worker has done it.

        @raises AssertionError: if it is not done within a minute
        """
        deadline = time.monotonic() + 60
        while job["status"] != "done":
            if time.monotonic() > deadline:
                raise AssertionError(f"the job did not end: {job}")
            time.sleep(0.3)
            job = self.look_up(job["id"])
        return job


def prove(stack: Stack) -> dict[str, bool]:
    """Every claim of the demo with its verdict; what went wrong goes to the terminal."""
    site = Site(stack)
    ip, acme = stack.ip, stack.acme
    on_host = ["docker", "exec", stack.name]
    job: dict[str, Any] = {}

    def https_creates_a_job() -> bool:
        job.update(site.job())
        return bool(job["id"])

    def the_processing_worker_does_it() -> bool:
        job.update(site.finished(job))
        journal = subprocess.run(
            [*on_host, "journalctl", "-o", "cat", "--no-pager", "-u", "celery-worker@processing*"],
            capture_output=True,
            text=True,
        )
        return bool(job["result"]) and str(job["id"]) in journal.stdout + journal.stderr

    def the_result_is_in_postgresql() -> bool:
        query = f"SELECT status FROM jobs WHERE id::text = '{job['id']}'"
        out = subprocess.run(
            [*on_host, "runuser", "-u", "postgres", "--", "psql", "-tA", "-d", "app", "-c", query],
            capture_output=True,
            text=True,
        )
        return out.stdout.strip() == "done"

    def a_websocket_follows_it() -> bool:
        follow = f"wss://{DOMAIN}/jobs/{site.job()['id']}/follow"
        with connect(follow, ssl=site.context, open_timeout=15) as stream:
            messages = [json.loads(text) for text in stream]
        return messages[-1]["status"] == "done" and len(messages) > 1

    def http_redirects_to_https() -> bool:
        status, headers, _ = site.ask("/", scheme="http")
        return status in (301, 308) and headers["Location"].startswith(f"https://{DOMAIN}/")

    def flower_asks_for_credentials() -> bool:
        word = base64.b64encode(f"admin:{stack.secrets()['demo_flower_password']}".encode()).decode()
        without = site.ask("/", port=5555)[0]
        return without == 401 and site.ask("/", port=5555, headers={"Authorization": f"Basic {word}"})[0] == 200

    def flower_is_closed_to_strangers() -> bool:
        command = [
            "docker",
            "exec",
            acme,
            "curl",
            "-sk",
            "--max-time",
            "4",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            f"https://{ip}:5555/",
        ]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() in ("000", "403")

    def databases_are_closed_to_strangers() -> bool:
        probe = (
            f'for p in 5432 6379 5556 9100; do timeout 2 bash -c "</dev/tcp/{ip}/$p" 2>/dev/null && echo $p; done; true'
        )
        return hosts.docker("exec", acme, "bash", "-c", probe) == ""

    def no_unit_failed() -> bool:
        return (
            subprocess.run(
                [*on_host, "systemctl", "--failed", "--no-legend", "--plain"], capture_output=True, text=True
            ).stdout.strip()
            == ""
        )

    claims: list[Callable[[], bool]] = [
        https_creates_a_job,
        the_processing_worker_does_it,
        the_result_is_in_postgresql,
        a_websocket_follows_it,
        http_redirects_to_https,
        flower_asks_for_credentials,
        flower_is_closed_to_strangers,
        databases_are_closed_to_strangers,
        no_unit_failed,
    ]
    verdicts = {}
    for claim in claims:
        try:
            verdicts[claim.__name__] = claim()
        except Exception as error:  # every kind of failure is a verdict here, not the end
            print(f"  {claim.__name__}: {type(error).__name__}: {error}", flush=True)
            verdicts[claim.__name__] = False
    return verdicts
