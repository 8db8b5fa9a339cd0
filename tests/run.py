#!/usr/bin/env python3
"""All tests of the collection, one stage after the other; the last line is the sum. Called by ``make test``.

    tests/run.py [--fast] [--full] [--jobs N] [stage ...]

A stage is setup, lint, unit, sanity, docs, rules, stores, cloud, agent, site or the name of a scenario; all of them
unless some are named. What a stage printed is in .ansible/test-logs/<stage>.log; the end of it is shown when it fails.
A stage that fails does not keep the others from running, one that hangs is ended by its time limit and has failed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple, TextIO

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".ansible/test-logs"
BIN = ROOT / ".venv/bin"
SANITY = ROOT / ".ansible/sanity"
# What the archive ships, which is what the sanity tests are about.
SHIPPED = (
    "plugins",
    "roles",
    "playbooks",
    "meta",
    "galaxy.yml",
    "requirements.yml",
    "README.md",
    "changelogs",
    "tests/sanity",
)
MINUTE = 60


class Tally(NamedTuple):
    passed: int
    failed: int
    note: str = ""


class Run:
    """Runs commands of one stage, writes its log and keeps its time limit."""

    processes: set[subprocess.Popen[bytes]] = set()
    stopping = False

    def __init__(self, name: str, log: TextIO, deadline: float) -> None:
        self.name, self.log, self.deadline = name, log, deadline

    def say(self, text: str) -> None:
        self.log.write(text + "\n")
        self.log.flush()

    def call(self, *command: str, cwd: Path = ROOT, **env: str) -> bool:
        """Whether the command ended well, and in time."""
        if Run.stopping:
            return False
        self.say(f"\n$ {' '.join(command)}")
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        Run.processes.add(process)
        try:
            code = process.wait(timeout=max(self.deadline - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            end(process)
            self.say(f"The time limit ended this: {' '.join(command)}")
            return False
        finally:
            Run.processes.discard(process)
        if code:
            self.say(f"exit status {code}: {' '.join(command)}")
        return code == 0

    def pytest(self, *arguments: str, **env: str) -> Tally:
        report = LOGS / f"{self.name}.xml"
        report.unlink(missing_ok=True)
        ok = self.call("pytest", f"--junit-xml={report}", *arguments, **env)
        tally = read_report(report)
        return tally if ok or tally.failed else Tally(tally.passed, 1)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and all that it started: politely, then for certain."""
    for number, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=patience)
            return
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def read_report(report: Path) -> Tally:
    """Passed and failed tests of a pytest run; skipped ones count as neither."""
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return Tally(0, 0)
    count = {key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return Tally(count["tests"] - failed - count["skipped"], failed)


def one(ok: bool) -> Tally:
    return Tally(1, 0) if ok else Tally(0, 1)


def lint(run: Run) -> Tally:
    results = [
        run.call("ruff", "check", "."),
        run.call("ruff", "format", "--check", "."),
        run.call("mypy", "plugins"),
        run.call("ansible-lint", "--offline", "-q", "--format", "pep8"),
    ]
    return one(all(results))


def unit(run: Run) -> Tally:
    return run.pytest("tests/unit", "--timeout=120")


def sanity(run: Run) -> Tally:
    """ansible-test wants a checkout below ``ansible_collections``; ours is linked, so it gets a copy of what ships."""
    copy = SANITY / "ansible_collections/bulwark/stack"
    shutil.rmtree(copy, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *SHIPPED], cwd=ROOT, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    # A repository of its own, or ansible-test asks the one above, which ignores this folder.
    if not run.call("git", "init", "-q", cwd=copy):
        return Tally(0, 1)
    (copy / ".git/info/exclude").write_text("/tests/output/\n", encoding="utf-8")
    home = SANITY / "home"
    # ansible-test downloads a pip for each of its environments; the one that Python brings will do, and needs no site.
    requirements = next(BIN.parent.glob("lib/python3.*/site-packages/ansible_test/_internal/python_requirements.py"))
    for version in re.findall(r"pip='([0-9.]+)'", requirements.read_text(encoding="utf-8")):
        stub = home / f".ansible/test/cache/get_pip_{version.replace('.', '_')}.py"
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text("import ensurepip\n\nensurepip.bootstrap()\n", encoding="utf-8")
    env = {"HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": str(SANITY)}
    for config in (Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        if config.exists():
            env.setdefault("PIP_CONFIG_FILE", str(config))
    python = requirements.parts[-5].removeprefix("python")
    return one(run.call("ansible-test", "sanity", "--venv", "--python", python, "--color", "no", cwd=copy, **env))


def docs(run: Run) -> Tally:
    results = [
        run.call("antsibull-changelog", "lint"),
        run.call("python", "tests/reference.py", "--check"),
        run.call("antsibull-docs", "lint-collection-docs", "--validate-collection-refs", "self", "."),
    ]
    return one(all(results))


def site(run: Run) -> Tally:
    """The whole site as one host lives through it: wrong input, kills at random tasks, secrets."""
    if not list(ROOT.glob("tests/site/test_*.py")):
        return Tally(0, 0, "no tests")
    # Its longest test is ten runs on a machine that may be busy.
    return run.pytest("tests/site", f"--timeout={3600 if os.environ.get('BULWARK_FULL') else 1200}")


def rules(run: Run) -> Tally:
    """The alerts that the collection ships."""
    return run.pytest("tests/rules", "--timeout=300")


def stores(run: Run) -> Tally:
    """The stores that other tests use are as strict as real ones."""
    return run.pytest("tests/stores", "--timeout=120")


def cloud(run: Run) -> Tally:
    """Inventories and provisioning against simulated providers that are as strict as their documents."""
    return run.pytest("tests/cloud", "--timeout=300")


def scenario(run: Run) -> Tally:
    """A molecule scenario: its sequence counts as one test, what its verifier runs counts by itself."""
    name = run.name
    report = LOGS / f"{name}.xml"
    report.unlink(missing_ok=True)
    ok = run.call("molecule", "test", "-s", name, PYTEST_ADDOPTS=f"--junit-xml={report} --timeout=300")
    if not ok:
        # In a log of its own: the end of the other one says what went wrong.
        with (LOGS / f"{name}.destroy.log").open("w", encoding="utf-8") as log:
            Run(name, log, time.monotonic() + 2 * MINUTE).call("molecule", "destroy", "-s", name)
    tally = read_report(report)
    sequence = Tally(1, 0) if ok or tally.failed else Tally(0, 1)
    return Tally(tally.passed + sequence.passed, tally.failed + sequence.failed)


def agent(run: Run) -> Tally:
    """The backup agent on real hosts: what every kind holds and gives back, and what may go wrong on the way."""
    return run.pytest("tests/backups", "--timeout=300")


class Stage(NamedTuple):
    name: str
    work: Callable[[Run], Tally]
    limit_minutes: int


def stages(fast: bool) -> list[Stage]:
    quick = [Stage("lint", lint, 10), Stage("unit", unit, 10)]
    if fast:
        return quick
    names = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
    names.sort(key=lambda name: name == "default")
    return [
        *quick,
        Stage("sanity", sanity, 15),
        Stage("docs", docs, 5),
        Stage("rules", rules, 5),
        Stage("stores", stores, 10),
        Stage("cloud", cloud, 10),
        Stage("agent", agent, 30),
        *(Stage(name, scenario, 20) for name in names),
        Stage("site", site, 40),
    ]


def telling(lines: list[str]) -> list[str]:
    """The forty lines that most likely say why: those up to the last error, else the last ones."""
    errors = [
        n for n, line in enumerate(lines) if re.match(r"fatal: |FAILED |E  |The time limit|\[ERROR\]|ERROR: ", line)
    ]
    stop = errors[-1] + 5 if errors else len(lines)
    return lines[max(stop - 40, 0) : stop]


class Board:
    """One line per stage; at a terminal, a last line with the running stages and their clocks."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self.lock = threading.Lock()
        self.running: dict[str, float] = {}
        self.failed: list[str] = []
        self.beat = time.monotonic()

    def start(self, name: str) -> None:
        with self.lock:
            self.running[name] = time.monotonic()
            if not self.live:
                print(f"  {name:<18} started", flush=True)

    def tick(self) -> None:
        with self.lock:
            now = time.monotonic()
            clocks = "  ".join(f"{name} {now - begun:.0f} s" for name, begun in self.running.items())
            if self.live:
                print(f"\r\033[K  … {clocks}", end="", flush=True)
            elif clocks and now - self.beat >= MINUTE:
                self.beat = now
                print(f"  … {clocks}", flush=True)

    def finish(self, name: str, tally: Tally) -> None:
        with self.lock:
            seconds = time.monotonic() - self.running.pop(name)
            if self.live:
                print("\r\033[K", end="")
            word = "FAILED" if tally.failed else "ok"
            counts = f"{tally.passed} passed" + (f", {tally.failed} failed" if tally.failed else "")
            print(f"  {name:<18} {word:<7} {seconds:>5.0f} s   {tally.note or counts}", flush=True)
            if tally.failed:
                self.failed.append(name)
                self.explain(name, 40)

    def explain(self, name: str, count: int) -> None:
        log = LOGS / f"{name}.log"
        for line in telling(log.read_text(encoding="utf-8", errors="replace").splitlines())[-count:]:
            print("      | " + line[:600])
        print(f"      all of it: {log.relative_to(ROOT)}", flush=True)

    def remind(self) -> None:
        """What failed, once more: the end of a long log is what people read."""
        for name in self.failed:
            print(f"\nFAILED: {name}")
            self.explain(name, 15)


def perform(stage: Stage, board: Board, stretch: int) -> Tally:
    board.start(stage.name)
    tally = Tally(0, 1)
    try:
        with (LOGS / f"{stage.name}.log").open("w", encoding="utf-8") as log:
            try:
                tally = stage.work(Run(stage.name, log, time.monotonic() + stage.limit_minutes * MINUTE * stretch))
            except Exception:
                # A mistake of the harness is a failed stage too, and the others still run.
                log.write(traceback.format_exc())
    finally:
        board.finish(stage.name, tally)
    return tally


def perform_all(todo: list[Stage], jobs: int, board: Board, stretch: int) -> list[Tally]:
    """Scenarios run side by side; what keeps all processors busy by itself, or is the last word, runs alone."""
    side_by_side = [stage for stage in todo if stage.work in (agent, stores, scenario) and stage.name != "default"]
    last = [stage for stage in todo if stage.name in ("default", "site")]
    first = [stage for stage in todo if stage not in side_by_side and stage not in last]
    batches = [*([stage] for stage in first), side_by_side, *([stage] for stage in last)]
    return [tally for batch in batches if batch for tally in pool(batch, jobs, board, stretch)]


def pool(batch: list[Stage], jobs: int, board: Board, stretch: int) -> list[Tally]:
    with ThreadPoolExecutor(max_workers=jobs) as executor:
        open_ones = {executor.submit(perform, stage, board, stretch) for stage in batch}
        done = set()
        try:
            while open_ones:
                finished, open_ones = wait(open_ones, timeout=1, return_when=FIRST_COMPLETED)
                done |= finished
                board.tick()
        except KeyboardInterrupt:
            Run.stopping = True
            for process in list(Run.processes):
                end(process)
            raise
    return [future.result() for future in done]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="lint, contract and unit tests only")
    parser.add_argument("--full", action="store_true", help="every case of every matrix")
    parser.add_argument("--jobs", type=int, default=2, help="scenarios at a time (default 2)")
    parser.add_argument("stages", nargs="*", help="only these")
    arguments = parser.parse_args()
    todo = stages(arguments.fast)
    known = {stage.name for stage in todo}
    unknown = sorted(set(arguments.stages) - known)
    if unknown:
        parser.error(f"there is no stage {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    todo = [stage for stage in todo if not arguments.stages or stage.name in arguments.stages]

    os.environ.update(
        PATH=f"{BIN}:{os.environ['PATH']}",
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
        ANSIBLE_HOME=str(ROOT / ".ansible"),
        ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".ansible/collections"),
        MOLECULE_GLOB="molecule/*/molecule.yml",
        NO_COLOR="1",
        COLUMNS="160",
    )
    if arguments.full:
        os.environ["BULWARK_FULL"] = "1"
    LOGS.mkdir(parents=True, exist_ok=True)
    hosts = any(stage.work in (rules, stores, agent, scenario, site) for stage in todo)
    setup = Stage("setup", lambda run: one(run.call("make", "--no-print-directory", "setup" if hosts else "tools")), 20)

    begun, board = time.monotonic(), Board()
    # Both, because a shell starts its background jobs deaf to an interrupt.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        tallies = pool([setup], 1, board, 1)
        if not tallies[0].failed:
            # The setup is no test; when it fails, nothing else can tell anything.
            tallies = perform_all(todo, arguments.jobs, board, 3 if arguments.full else 1)
    except KeyboardInterrupt:
        print("\nStopped. Test hosts that are left: docker ps; 'molecule destroy -s <scenario>' removes them.")
        return 130
    board.remind()
    passed, failed = sum(t.passed for t in tallies), sum(t.failed for t in tallies)
    print(f"\nTotal time: {(time.monotonic() - begun) / MINUTE:.1f} minutes")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
