# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who hears of it without Prometheus: mail or a webhook after a failure, and a dead man's switch after each run.

Nothing here fails a backup: what cannot be sent is said in the journal.
"""

from __future__ import annotations

import json
import smtplib
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from .errors import BackupError
from .settings import Settings

SENDMAIL = Path("/usr/sbin/sendmail")
TIMEOUT_SECONDS = 20
TRIES = 3
JOURNAL_LINES = 20
# Where a relay on the same host may listen without TLS.
LOOPBACK = ("127.0.0.1", "::1", "localhost")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """What is told of a unit that failed.

    @param job: "" for a unit that serves all jobs
    @param sentence: why, in the agent's own words
    @param journal: the last lines of the unit
    """

    host: str
    unit: str
    job: str
    sentence: str
    journal: tuple[str, ...]

    @property
    def subject(self) -> str:
        return f"[{self.host}] {self.unit} failed"

    @property
    def what_next(self) -> list[str]:
        return [
            f"On {self.host}, 'bulwark-backup status' shows what is missing,",
            f"'systemctl start {self.unit}' tries again,",
            f"'journalctl -u {self.unit}' shows the rest.",
        ]

    @property
    def text(self) -> str:
        return "\n".join([self.sentence, "", *self.journal, "", *self.what_next, ""])


def failure(settings: Settings, unit: str) -> Failure:
    """What happened to a unit such as C(bulwark-backup@shop.service)."""
    result, run = state(unit)
    lines = tuple(without_secrets(settings, line) for line in journal(unit, run))
    if result in ("exit-code", "success", ""):
        # The agent's own last word is the sentence.
        sentence = lines[-1] if lines else "It left no word in the journal."
    else:
        sentence = f"It did not end by itself ({result})."
    return Failure(settings.host, unit, unit.rpartition(".")[0].partition("@")[2], sentence, lines)


def state(unit: str) -> tuple[str, str]:
    """How the unit ended in the words of systemd.service(5), such as C(timeout), and the name of that run."""
    shown = dict(line.split("=", 1) for line in output("systemctl", "show", "-p", "Result,InvocationID", unit) if line)
    return shown.get("Result", ""), shown.get("InvocationID", "")


def journal(unit: str, run: str) -> list[str]:
    """The last lines of the unit's last run; without what systemd says itself if the run is known."""
    match = (f"_SYSTEMD_INVOCATION_ID={run}",) if run else ("-u", unit)
    return output("journalctl", "--no-pager", "-q", "-o", "cat", "-n", str(JOURNAL_LINES), *match)


def output(*command: str) -> list[str]:
    """The lines that a program prints; none where there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def without_secrets(settings: Settings, text: str) -> str:
    """The text as it may leave the host. A client library may have put a key into its message."""
    for secret in secrets_of(settings):
        text = text.replace(secret, "…")
    return text


def secrets_of(settings: Settings) -> Iterator[str]:
    for store in filter(None, (settings.store, settings.prune_store)):
        yield from filter(None, (store.secret_key, store.access_key))
    yield from filter(None, (settings.notify.webhook_url, settings.notify.ping_url))


def tell(settings: Settings, what: Failure, say: Say) -> bool:
    """Tells everybody who wants to know; whether all of them could be told."""
    notify = settings.notify
    ways: list[tuple[str, Callable[[], None]]] = []
    if notify.mail_to:
        ways.append((f"The mail to {notify.mail_to}", lambda: mail(notify.mail_to, what)))
    if notify.webhook_url:
        ways.append(("The webhook", lambda: post(notify.webhook_url, what)))
    # All of them, also after one that failed.
    sent = [attempt(settings, name, way, say) for name, way in ways]
    return all(sent)


def ping(settings: Settings, job: str, ok: bool, say: Say) -> bool:
    """The sign of life after a run: the URL, where C({job}) is the job's name, or with C(/fail) behind its path."""
    if not settings.notify.ping_url:
        return True
    parts = urllib.parse.urlsplit(settings.notify.ping_url.replace("{job}", job))
    url = parts if ok else parts._replace(path=f"{parts.path.rstrip('/')}/fail")
    return attempt(settings, "The ping", lambda: request(url.geturl()), say)


def attempt(settings: Settings, name: str, way: Callable[[], None], say: Say) -> bool:
    try:
        way()
    except (OSError, ValueError, BackupError, subprocess.SubprocessError) as error:
        say(f"{name} was not sent: {without_secrets(settings, str(error))}")
        return False
    return True


def mail(to: str, what: Failure) -> None:
    message = EmailMessage()
    message["Subject"], message["To"], message["From"] = what.subject, to, f"root@{socket.getfqdn()}"
    message.set_content(what.text)
    if SENDMAIL.exists():
        done = subprocess.run(
            [SENDMAIL, "-i", "-t"], input=bytes(message), capture_output=True, check=False, timeout=60
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise BackupError(f"{SENDMAIL} failed (exit status {done.returncode}): {said}")
        return
    try:
        with smtplib.SMTP("localhost", timeout=TIMEOUT_SECONDS) as server:
            server.send_message(message)
    except OSError as error:
        # SMTPException is one of them.
        raise BackupError(f"there is no {SENDMAIL}, and the mail server on localhost says: {error}.") from error


def post(url: str, what: Failure) -> None:
    fields = {"host": what.host, "unit": what.unit, "job": what.job, "error": what.sentence, "journal": what.journal}
    # "text" is what Slack, Mattermost and others show.
    body = json.dumps({"text": " ".join([f"{what.subject}:", what.sentence, *what.what_next]), **fields}).encode()
    request(url, body)


def request(url: str, body: bytes | None = None) -> None:
    """Gets a URL or posts JSON to it, and again a few times if the other side may come to itself.

    @raises OSError: if it does not
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise BackupError("its URL must begin with https://.")
    wanted = urllib.request.Request(url, body, {"Content-Type": "application/json"} if body else {})  # noqa: S310
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.build_opener().open(wanted, timeout=TIMEOUT_SECONDS):
                return
        except OSError as error:
            # Refused for good: the same words would be refused again.
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429)
            if final or not left:
                raise
        time.sleep(2 ** (TRIES - left))
