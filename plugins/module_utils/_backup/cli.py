# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""bulwark-backup: makes, lists, proves, restores and prunes the backups of this host.

Exit status: 0 done, 1 failed, 2 wrong use or settings, 75 busy or no room now: try later.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from . import catalogue, crypto, jobs, metrics, notify, retention, settings, state, status
from .errors import BackupError, BusyError, SettingsError
from .jobs import Agent
from .kinds import Check
from .progress import Progress
from .settings import Job, Settings, from_dict
from .stores import open_store
from .table import bytes_text, seconds_text

FAILED, USAGE, BUSY = 1, 2, 75


class StoppedError(BackupError):
    """Somebody wants it to end now."""


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--settings", type=Path, default=settings.SETTINGS_FILE, metavar="FILE")
    common.add_argument("--json", action="store_true", help="the result for machines, nothing else")
    main = argparse.ArgumentParser(prog="bulwark-backup", description=__doc__.splitlines()[0])
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=[common], help=text, description=text)

    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("--backup", default="latest", metavar="ID", help="a backup as 'list' names it; latest")
    chosen.add_argument("--host", default="", help="whose backup; this host's")
    chosen.add_argument("--identity", default="", metavar="FILE", help="the private key, if the settings name none")
    chosen.add_argument(
        "--passphrase", action="store_true", help="ask for the passphrase instead of using the key file"
    )

    def add_reading(name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common, chosen], help=text, description=text)
        made.add_argument("job")
        return made

    run = add("run", "Make a backup")
    run.add_argument("job")
    prune = add("prune", "Drop what the retention does not keep")
    prune.add_argument("jobs", nargs="*", metavar="job")
    drill = add("drill", "Restore the newest backup into a throw-away place and check it")
    drill.add_argument("job", nargs="?", default="", help="all jobs, if none is given")
    drill.add_argument("--backup", default="latest", metavar="ID")
    listing = add("list", "The backups in the store")
    listing.add_argument("job", nargs="?", default="")
    listing.add_argument("--host", default=None, help="another host's; 'all' for everybody's")
    add("status", "How the jobs of this host do")
    restore = add_reading("restore", "Restore a backup for real; what it replaces is kept beside")
    restore.add_argument("--to", action="append", default=[], metavar="KEY=VALUE", help="where to, see the job's kind")
    restore.add_argument("--yes", action="store_true", help="do it")
    for changing in (run, prune, restore):
        changing.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
    add_reading("verify", "Read every byte of a backup and compare its sums")
    fetch = add_reading("fetch", "Get one member of a backup as it was")
    fetch.add_argument("--member", required=True, help="as 'list --json' and the manifest name it")
    fetch.add_argument("--output", required=True, metavar="FILE", help="a new file, or - for stdout")
    add("probe", "Try what the store's keys may do")
    key = add("make-key", "Make a pair of keys; the private one is printed and kept nowhere")
    key.add_argument("--passphrase", action="store_true", help="derive it from a passphrase that people can keep")
    add("notify", "Tell about a unit that failed; for OnFailure=").add_argument("unit")
    return main


class Command:
    """What each command does, and how it is shown."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.progress = Progress(None if arguments.json else sys.stderr)

    def say(self, text: str) -> None:
        self.progress.say(text)

    def show(self, lines: Sequence[str], plain: Any) -> None:
        text = json.dumps(plain, indent=1, default=str) if self.arguments.json else "\n".join(lines)
        if text:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    @property
    def settings(self) -> Settings:
        loaded, identity = load(self.arguments.settings), getattr(self.arguments, "identity", "")
        return replace(loaded, identity_file=identity) if identity else loaded

    @property
    def agent(self) -> Agent:
        loaded = self.settings
        ask = crypto.ask if getattr(self.arguments, "passphrase", False) else None
        return Agent(loaded, open_store(loaded.store), now, self.say, self.progress, ask)

    def job(self, loaded: Settings) -> Job:
        """The job of the arguments. That of another host needs no entry of its own if one of this host is alike."""
        job = loaded.job(self.arguments.job)
        host = getattr(self.arguments, "host", "")
        return settings.of_host(job, host) if host else job

    def run(self) -> None:
        agent, dry_run = self.agent, self.arguments.dry_run
        job = self.job(agent.settings)
        manifest = reported(agent, job, lambda: jobs.run(agent, job, dry_run), dry_run)
        sizes = f"{bytes_text(manifest.plain_bytes)}, {bytes_text(manifest.stored_bytes)} stored"
        text = f"{job.name}: {manifest.backup}, {sizes}"
        self.show(
            [f"{job.name} would be backed up to {agent.store.settings.label}." if dry_run else text], asdict(manifest)
        )

    def prune(self) -> None:
        agent, dry_run = self.agent, self.arguments.dry_run
        chosen = [agent.settings.job(name) for name in self.arguments.jobs] or agent.settings.jobs
        try:
            gone = jobs.prune(agent, chosen, dry_run)
        finally:
            metrics.publish(agent.settings, self.say)
        verb = "would be dropped" if dry_run else "dropped"
        self.show([f"{backup} {verb}" for backup in gone] or ["Nothing to drop."], gone)

    def drill(self) -> None:
        agent = self.agent
        chosen = [agent.settings.job(self.arguments.job)] if self.arguments.job else agent.settings.jobs
        reports, errors = {}, []
        for job in chosen:
            try:
                reports[job.name] = jobs.drill(agent, job, self.arguments.backup)
            except jobs.DrillFailedError as error:
                reports[job.name] = error.report
                errors.append(error)
            except BackupError as error:
                if len(chosen) == 1:
                    raise
                errors.append(error)  # type: ignore[arg-type]
            finally:
                metrics.publish(agent.settings, self.say)
        plain = {name: {**asdict(report), "ok": report.ok} for name, report in reports.items()}
        lines = [line for name, report in reports.items() for line in drill_lines(name, report)]
        self.show(lines, plain)
        if errors:
            raise BackupError(" ".join(str(error) for error in errors))

    def list(self) -> None:
        agent = self.agent
        host = agent.settings.host if self.arguments.host is None else self.arguments.host
        found = catalogue.catalogue(agent.store, "" if host == "all" else host, self.arguments.job)
        records = [record for record in found if record.complete]
        lines = status.listing(records, now().timestamp(), retention.local_zone())
        self.show(lines, [asdict(record) for record in records])

    def status(self) -> None:
        loaded, moment = self.settings, now().timestamp()
        if loaded.metrics_file and not Path(loaded.metrics_file).exists():
            # A host whose timers never fire is to be heard of, too.
            metrics.publish(loaded, self.say)
        jobs_known = status.overview(loaded, state.read_states(loaded.state_dir), moment, status.timers())
        self.show(status.status(jobs_known, loaded.host, moment, retention.local_zone()), jobs_known)

    def restore(self) -> None:
        agent = self.agent
        job = self.job(agent.settings)
        target = dict(pair(word) for word in self.arguments.to)
        record = jobs.find(agent, job, self.arguments.backup)
        what = f"{record.backup} of {record.host}/{job.name} ({job.kind}, {bytes_text(record.stored_bytes)} stored)"
        where = ", ".join(f"{key}={value}" for key, value in target.items()) or "the place that it came from"
        if not self.arguments.yes or self.arguments.dry_run:
            text = f"Would restore {what} to {where}; what it replaces is kept beside."
            if self.arguments.dry_run:
                self.show([text], asdict(record))
                return
            raise BackupError(f"{text} Nothing was done: say --yes to do it.")
        self.show(lines := jobs.restore(agent, job, record.backup, target), lines)

    def verify(self) -> None:
        agent = self.agent
        self.show_checks(jobs.verify(agent, self.job(agent.settings), self.arguments.backup))

    def probe(self) -> None:
        self.show_checks(jobs.probe(self.agent))

    def show_checks(self, checks: Sequence[Check]) -> None:
        self.show([check_line(check) for check in checks], [asdict(check) for check in checks])
        bad = [check.text for check in checks if not check.ok]
        if bad:
            raise BackupError(" ".join(bad))

    def fetch(self) -> None:
        agent = self.agent
        jobs.fetch(agent, self.job(agent.settings), self.arguments.backup, self.arguments.member, self.arguments.output)

    def make_key(self) -> None:
        if self.arguments.passphrase:
            passphrase = crypto.ask()
            if sys.stdin.isatty() and crypto.ask("Again: ") != passphrase:
                raise SettingsError("The two are not the same.")
            made = crypto.pair_of(passphrase, secrets.token_bytes(crypto.SALT_BYTES))
            self.show([made.recipient], {"recipient": made.recipient})
            return
        made = crypto.make_pair()
        lines = [
            f"# public key, for recipients: {made.recipient}",
            "# Keep this outside of the hosts it is for:",
            made.identity,
        ]
        self.show(lines, made._asdict())

    def notify(self) -> None:
        loaded = self.settings
        notify.tell(loaded, notify.failure(loaded, self.arguments.unit), self.say)


def load(path: Path) -> Settings:
    """@raises SettingsError: if the file is missing or wrong, with what to write instead"""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise SettingsError(f"The settings {path} are not JSON: {error}.") from error
    return settings.checked(from_dict(Settings, plain, path.name))


def reported(agent: Agent, job: Job, work: Callable[[], Any], dry_run: bool) -> Any:
    """The result; everybody who watches hears of the end, good or bad."""
    ok = False
    try:
        result = work()
        ok = True
        return result
    finally:
        if not dry_run:
            metrics.publish(agent.settings, agent.say)
            notify.ping(agent.settings, job.name, ok, agent.say)


def drill_lines(name: str, report: jobs.DrillReport) -> list[str]:
    word = "passed" if report.ok else "FAILED"
    head = f"{name}: the drill of {report.backup} {word} in {seconds_text(report.seconds)}"
    return [head, *(f"  {check_line(check)}" for check in report.checks)]


def check_line(check: Check) -> str:
    return f"{'ok' if check.ok else 'FAILED':<6} {check.name}: {check.text}"


def pair(word: str) -> tuple[str, str]:
    key, sign, value = word.partition("=")
    if not sign or not key:
        raise SettingsError(f"--to takes KEY=VALUE, not {word!r}.")
    return key, value


def now() -> datetime:
    return datetime.now(timezone.utc)


def stop(number: int, _frame: object) -> NoReturn:
    # A second one ends it at once; the next run sweeps what that leaves.
    signal.signal(number, signal.SIG_DFL)
    raise StoppedError(f"Stopped by {signal.Signals(number).name}; nothing half done is kept.")


class Lines(logging.Handler):
    """What the libraries report, above the moving line of the progress."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        self.say(record.getMessage())


def main(arguments: Sequence[str] | None = None) -> int:
    parsed = parser().parse_args(arguments)
    command = Command(parsed)
    logging.basicConfig(handlers=[Lines(command.say)], level=logging.WARNING)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        with command.progress:
            getattr(command, parsed.command.replace("-", "_"))()
    except SettingsError as error:
        return fail(error, USAGE)
    except BusyError as error:
        return fail(error, BUSY)
    except BackupError as error:
        return fail(error, FAILED)
    except BrokenPipeError:
        # Who reads the output has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        # Of this host, not of the store: a disk that is full or broken.
        return fail(BackupError(f"This host cannot go on: {error.strerror} ({error.filename})."), FAILED)
    return 0


def fail(error: BackupError, status: int) -> int:
    sys.stderr.write(f"{error}\n")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
