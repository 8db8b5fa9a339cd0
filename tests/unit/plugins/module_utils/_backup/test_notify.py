"""Who is told what when a unit fails: through a real HTTP server, and a sendmail of the test's own."""

from __future__ import annotations

import json
import threading
from email import message_from_string
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from plugins.module_utils._backup import notify
from plugins.module_utils._backup.settings import Notify, Settings, StoreSettings

UNIT = "bulwark-backup@shop.service"
SECRETS = ("SECRETKEY", "ACCESSKEY", "PRUNEKEY")


class Server(HTTPServer):
    """Answers with the given statuses in turn, then with 200, and remembers what it was asked."""

    def __init__(self):
        self.asked: list[tuple[str, str, bytes]] = []
        self.answers: list[int] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def host(monkeypatch):
    """What systemd would say, and no waiting."""
    said = {
        "systemctl": ["Result=exit-code", "InvocationID=0123"],
        "journalctl": ["shop.dump: 20 MiB in 2 s", "The store refused the key ACCESSKEY with SECRETKEY."],
    }
    monkeypatch.setattr(notify, "output", lambda *command: said[command[0]])
    monkeypatch.setattr(notify.time, "sleep", lambda seconds: None)
    return said


def settings(**ways):
    store = StoreSettings("s3", access_key="ACCESSKEY", secret_key="SECRETKEY")
    prune = StoreSettings("s3", access_key="ACCESSKEY", secret_key="PRUNEKEY")
    return Settings("web1", store, prune_store=prune, notify=Notify(**ways))


def tell(ways):
    lines: list[str] = []
    ok = notify.tell(ways, notify.failure(ways, UNIT), lines.append)
    return ok, lines


def test_the_sentence_is_the_last_word_of_the_run():
    what = notify.failure(settings(), UNIT)
    assert (what.host, what.job) == ("web1", "shop")
    assert what.sentence == "The store refused the key … with …."
    assert what.text.splitlines() == [
        *("The store refused the key … with ….", ""),
        *("shop.dump: 20 MiB in 2 s", "The store refused the key … with ….", ""),
        "On web1, 'bulwark-backup status' shows what is missing,",
        "'systemctl start bulwark-backup@shop.service' tries again,",
        "'journalctl -u bulwark-backup@shop.service' shows the rest.",
    ]


def test_a_run_that_was_killed_is_not_blamed_on_its_last_word(host):
    host["systemctl"] = ["Result=oom-kill", "InvocationID=0123"]
    assert notify.failure(settings(), UNIT).sentence == "It did not end by itself (oom-kill)."


def test_a_unit_that_said_nothing(host):
    host.update(systemctl=[], journalctl=[])
    what = notify.failure(settings(), "bulwark-backup-prune.service")
    assert what.job == ""
    assert "left no word" in what.sentence


def test_the_webhook_gets_json_without_secrets(server):
    assert tell(settings(webhook_url=f"{server.url}/hook")) == (True, [])
    [(method, path, body)] = server.asked
    assert (method, path) == ("POST", "/hook")
    fields = json.loads(body)
    assert fields["text"].startswith("[web1] bulwark-backup@shop.service failed: The store refused")
    assert fields["error"] == "The store refused the key … with …."
    assert not [secret for secret in SECRETS if secret in body.decode()]


def test_the_webhook_is_tried_again(server):
    server.answers = [503, 500]
    assert tell(settings(webhook_url=server.url))[0]
    assert len(server.asked) == 3


@pytest.mark.parametrize(("answers", "tries"), [([503] * 9, 3), ([404], 1), ([429, 200], 2)])
def test_its_tries_are_counted(server, answers, tries):
    server.answers = answers
    ok, lines = tell(settings(webhook_url=f"{server.url}/TOKEN"))
    assert len(server.asked) == tries
    assert ok == (tries == 2)
    assert ok or "The webhook was not sent: HTTP Error" in lines[0]
    assert "TOKEN" not in "".join(lines)


@pytest.mark.parametrize("url", ["http://example.org/hook", "file:///etc/passwd", "hook"])
def test_only_https_leaves_the_host(url):
    ok, lines = tell(settings(webhook_url=url))
    assert not ok
    assert lines == ["The webhook was not sent: its URL must begin with https://."]


def test_mail_goes_through_sendmail(tmp_path, monkeypatch):
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/args\ncat > {tmp_path}/mail\n')
    program.chmod(0o755)
    monkeypatch.setattr(notify, "SENDMAIL", program)
    assert tell(settings(mail_to="ops@example.org")) == (True, [])
    assert (tmp_path / "args").read_text() == "-i -t\n"
    mail = message_from_string((tmp_path / "mail").read_text())
    assert (mail["To"], mail["Subject"]) == ("ops@example.org", f"[web1] {UNIT} failed")
    text = mail.get_payload(decode=True).decode()
    assert text.startswith("The store refused")
    assert not [secret for secret in SECRETS if secret in text]


def test_a_sendmail_that_fails_is_said(tmp_path, monkeypatch):
    program = tmp_path / "sendmail"
    program.write_text("#!/bin/sh\necho no route to SECRETKEY >&2\nexit 75\n")
    program.chmod(0o755)
    monkeypatch.setattr(notify, "SENDMAIL", program)
    ok, lines = tell(settings(mail_to="ops@example.org"))
    assert not ok
    assert lines == [
        f"The mail to ops@example.org was not sent: {program} failed (exit status 75): no route to …",
    ]


def test_without_sendmail_the_server_on_this_host_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(notify, "SENDMAIL", tmp_path / "none")

    def smtp(name, timeout):
        raise ConnectionRefusedError("connection refused")

    monkeypatch.setattr(notify.smtplib, "SMTP", smtp)
    ok, lines = tell(settings(mail_to="ops@example.org"))
    assert not ok
    assert "the mail server on localhost says: connection refused." in lines[0]


def test_all_are_told_even_if_one_cannot_be(server, monkeypatch):
    def broken(to, what):
        raise OSError("no mail today")

    monkeypatch.setattr(notify, "mail", broken)
    ok, lines = tell(settings(mail_to="ops@example.org", webhook_url=server.url))
    assert not ok
    assert lines == ["The mail to ops@example.org was not sent: no mail today"]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("template", "ok", "path"),
    [
        ("/key", True, "/key"),
        ("/key", False, "/key/fail"),
        ("/key/{job}", True, "/key/shop"),
        ("/key/{job}/?create=1", False, "/key/shop/fail?create=1"),
    ],
)
def test_ping(server, template, ok, path):
    assert notify.ping(settings(ping_url=server.url + template), "shop", ok, print)
    assert server.asked == [("GET", path, b"")]


def test_no_ping_wanted():
    assert notify.ping(settings(), "shop", True, print)


def test_a_ping_that_nobody_hears_is_said(server):
    server.answers = [404]
    lines: list[str] = []
    assert not notify.ping(settings(ping_url=f"{server.url}/TOKEN"), "shop", True, lines.append)
    assert "The ping was not sent" in lines[0]
    assert "TOKEN" not in lines[0]
