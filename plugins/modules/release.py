#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Build, try, switch and take back the releases of a Python application
description:
  - Keeps C(/srv/<app>/releases/<id>) with the code and its own virtual environment, and C(/srv/<app>/current).
  - A release is complete when it carries its C(.release.json); whatever a killed run left is made anew.
  - The steps V(built), V(live) and V(settled) follow each other; between the last two the caller brings the
    units C(<app>-web.socket) and C(<app>-web.service) up to date.
  - While the service restarts, C(/run/<app>/web.sock) leads to the candidate, which is the same release on a
    socket of its own. So nobody waits, and no connection is closed under a request.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  app:
    description: Name of the application, its account and its units.
    type: str
    required: true
  state:
    description:
      - V(described) names the source on the controller and does not contact the host.
      - V(built) makes the release that O(source) asks for, unless it is there.
      - V(chosen) finds the release O(id), or the one before the current one.
      - V(live) migrates, starts the release O(id) on a side socket and makes it the current one if it is healthy.
      - V(settled) checks the restarted service and takes a release back that does not answer.
    type: str
    choices: [described, built, chosen, live, settled]
    required: true
  id:
    description: The release.
    type: str
    default: ""
  source:
    description: Where the code comes from; one of C(directory), C(repository) and C(wheel), and what belongs to it.
    type: dict
    default: {}
  archive:
    description: The files, shipped by the action plugin.
    type: path
  python:
    description: The interpreter that makes virtual environments.
    type: path
    default: /usr/bin/python3
  keep:
    description: How many releases stay.
    type: int
    default: 5
  migrate:
    description: Start C(<app>-migrate.service) before the release is tried.
    type: bool
    default: false
  serve:
    description: Whether this host has the service.
    type: bool
    default: true
  remember:
    description: Whether a way back to the release that was current is kept; V(false) when going back.
    type: bool
    default: true
  unit_lines:
    description: Lines that the unit of the service is going to have. Others mean that the service is about to restart.
    type: list
    elements: str
    default: []
  health_path:
    description: Answers 200 when the application can work.
    type: str
    default: /health
  health_host:
    description: The name that the health check asks for.
    type: str
    default: localhost
  health_timeout:
    description: Seconds until it must answer so.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Build the release
  bulwark.stack.release:
    app: shop
    state: built
    source: {directory: ./shop, requirements: requirements.txt, excludes: [.git]}
  register: shop_release
"""

RETURN = r"""
id: {description: The release that was asked for., returned: always, type: str}
current: {description: The release that C(current) leads to., returned: always, type: str}
pending: {description: Whether the release has to be switched to., returned: always, type: bool}
settled: {description: Whether the service answers and nothing is left to do., returned: always, type: bool}
digest: {description: What the controller knows of the source., returned: state described, type: str}
"""

import fcntl
import glob
import grp
import hashlib
import http.client
import json
import os
import pwd
import re
import shutil
import socket
import tarfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

SPEC = {
    "app": {"type": "str", "required": True},
    "state": {"type": "str", "required": True, "choices": ["described", "built", "chosen", "live", "settled"]},
    "id": {"type": "str", "default": ""},
    "source": {"type": "dict", "default": {}},
    "archive": {"type": "path"},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "keep": {"type": "int", "default": 5},
    "migrate": {"type": "bool", "default": False},
    "serve": {"type": "bool", "default": True},
    "remember": {"type": "bool", "default": True},
    "unit_lines": {"type": "list", "elements": "str", "default": []},
    "health_path": {"type": "str", "default": "/health"},
    "health_host": {"type": "str", "default": "localhost"},
    "health_timeout": {"type": "int", "default": 30},
}
MARK = ".release.json"
LOCKS = "/run/lock"
# A candidate that crashed is started again by whoever connects; the second time tells that it was no accident.
CRASHES = 2


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def release_id(digest: str, settings: list[str]) -> str:
    """Twelve characters of the code, six of what else makes a release what it is."""
    return f"{digest[:12]}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:6]}"


def environment_values(text: str) -> list[str]:
    """The values in an EnvironmentFile as C(web_app) writes it, longest first."""
    pairs = re.findall(r'^\w+="((?:[^"\\]|\\.)*)"', text, re.MULTILINE | re.DOTALL)
    values = {line for pair in pairs for line in re.sub(r"\\(.)", r"\1", pair, flags=re.DOTALL).splitlines()}
    return sorted((value for value in values if len(value) >= 6), key=len, reverse=True)


def pip_complaint(text: str) -> str:
    """What pip says in its errors, without its warnings and progress."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [re.sub(r"^ERROR:\s*", "", line) for line in lines if line.startswith("ERROR:")]
    return " ".join((errors or lines)[-3:])


def ref_digest(listing: str, revision: str) -> str:
    """The commit that a revision means, from the output of C(git ls-remote); tags win over branches, as in git."""
    refs = {name: digest for digest, _sep, name in (line.partition("\t") for line in listing.splitlines())}
    names = (f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}", f"refs/heads/{revision}", revision)
    return next((refs[name] for name in names if name in refs), "")


class Releases:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.p = module.params
        self.app: str = self.p["app"]
        self.root = f"/srv/{self.app}"
        self.run_dir = f"/run/{self.app}"
        self.web = f"{self.app}-web.service"
        self.candidate = f"{self.app}-candidate.service"
        self.environment = f"/etc/{self.app}/environment"
        self.id: str = self.p["id"]

    # What is there

    def path(self, release: str) -> str:
        return f"{self.root}/releases/{release}"

    def link(self, name: str) -> str:
        """The release that a link in the application's directory leads to."""
        try:
            return os.path.basename(os.readlink(f"{self.root}/{name}"))
        except OSError:
            return ""

    def mark(self, release: str) -> dict[str, Any]:
        try:
            with open(f"{self.path(release)}/{MARK}", encoding="utf-8") as handle:
                return dict(json.load(handle))
        except (OSError, ValueError):
            return {}

    def set_mark(self, release: str, **values: Any) -> None:
        path = f"{self.path(release)}/{MARK}"
        with open(path + ".new", "w", encoding="utf-8") as handle:
            json.dump({**self.mark(release), **values}, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(path + ".new", path)

    def complete(self, release: str) -> bool:
        # The interpreter is gone after an upgrade of the distribution; the release is made anew then.
        return bool(release and self.mark(release)) and os.path.exists(f"{self.path(release)}/.venv/bin/python")

    def unit(self, name: str) -> dict[str, str]:
        names = "ActiveState,InvocationID,InactiveExitTimestampMonotonic"
        out = self.module.run_command(["systemctl", "show", "-p", names, name])[1]
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def diverted(self) -> bool:
        """Whether the service's own socket waits under its second name, which one that was made anew does not have."""
        main, web = f"{self.run_dir}/main.sock", f"{self.run_dir}/web.sock"
        if not os.path.exists(main) or (os.path.exists(web) and os.path.samefile(main, web)):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            return client.connect_ex(main) == 0

    def stale(self) -> bool:
        """Whether the service that runs is about to restart: for a new environment, or for a new unit."""
        state = self.unit(self.web)
        if state.get("ActiveState") != "active" or not os.path.exists(self.environment):
            return False
        with open(f"/etc/systemd/system/{self.web}", encoding="utf-8") as handle:
            lines = handle.read().splitlines()
        if any(line not in lines for line in self.p["unit_lines"]):
            return True
        age = time.clock_gettime(time.CLOCK_MONOTONIC) - int(state["InactiveExitTimestampMonotonic"] or 0) / 1e6
        return os.stat(self.environment).st_mtime > time.time() - age

    def answer(self, changed: bool = False, **more: Any) -> None:
        current = self.link("current")
        pending = current != self.id or (self.p["serve"] and self.stale())
        settled = not pending and bool(self.mark(current).get("good"))
        if settled and self.p["serve"]:
            settled = not self.diverted() and self.health(f"{self.run_dir}/web.sock", 5) == ""
        self.module.exit_json(changed=changed, id=self.id, current=current, pending=pending, settled=settled, **more)

    def fail(self, message: str) -> None:
        self.module.fail_json(msg=message, id=self.id, current=self.link("current"))

    # Health

    def health(self, path: str, timeout: float) -> str:
        """Empty when the application answers 200 on the socket, otherwise what it does instead."""
        connection = UnixConnection(path, timeout)
        try:
            connection.request("GET", self.p["health_path"], headers={"Host": self.p["health_host"]})
            status = connection.getresponse().status
            return "" if status == 200 else f"answers {status}"
        except TimeoutError:
            return "does not answer"
        except (OSError, http.client.HTTPException) as exc:
            return f"does not answer ({exc or type(exc).__name__})"
        finally:
            connection.close()

    def wait(self, path: str, unit: str) -> str:
        """Waits until the application is healthy; gives the reason when the time is over or the unit keeps crashing."""
        deadline = time.monotonic() + self.p["health_timeout"]
        starts: list[str] = []
        while True:
            left = deadline - time.monotonic()
            trouble = self.health(path, max(min(left, 5.0), 0.5))
            if not trouble:
                return ""
            state = self.unit(unit)
            if state.get("InvocationID") and state["InvocationID"] not in starts:
                starts.append(state["InvocationID"])
            if state.get("ActiveState") == "failed" or len(starts) > CRASHES:
                return "crashes on start"
            if left <= 0:
                return f"{trouble} after {self.p['health_timeout']} s"
            time.sleep(0.2)

    def journal(self, unit: str, since: float) -> str:
        self.module.run_command(["journalctl", "--sync"])
        # Not by -n: together with --since, older versions of systemd give the first lines and not the last ones.
        command = ["journalctl", "--no-pager", "-o", "cat", "-u", unit, "--since", f"@{int(since)}"]
        text = "\n".join(self.module.run_command(command)[1].strip().splitlines()[-30:])
        try:
            with open(self.environment, encoding="utf-8") as handle:
                secrets = environment_values(handle.read())
        except OSError:
            secrets = []
        for secret in secrets:
            text = text.replace(secret, "********")
        return f"\nThe last lines of its journal:\n{text}" if text else ""

    # Building

    def described(self) -> None:
        self.fail("state described is answered by the action plugin; call bulwark.stack.release.")

    def built(self) -> None:
        source = {"repository": "", "requirements": "", "digest": "", **self.p["source"]}
        digest = self.commit(source) if source["repository"] else source["digest"]
        self.id = release_id(digest, [source["requirements"], self.p["python"]])
        if self.complete(self.id):
            self.answer()
        if self.module.check_mode:
            self.module.exit_json(changed=True, id=self.id, current=self.link("current"), pending=True, settled=False)
        if not os.access(self.p["python"], os.X_OK):
            self.fail(
                f"web_app_python: there is no {self.p['python']} on this host; install it, or name another interpreter."
            )
        if not source["repository"] and not self.p["archive"]:
            self.module.exit_json(changed=False, needs_archive=True)
        try:
            self.build(source, digest)
            self.set_mark(self.id, built=time.time(), source=digest)
        except OSError as exc:
            self.abandon(f"{exc.strerror or exc} ({exc.filename or self.path(self.id)}).")
        self.prune()
        self.answer(changed=True)

    def abandon(self, reason: str) -> None:
        shutil.rmtree(self.path(self.id), ignore_errors=True)
        self.fail(f"Release {self.id} could not be built, and what serves was not touched: {reason}")

    def git(self, *words: str) -> str:
        key = f"/etc/{self.app}/repository_key"
        environment = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        if os.path.exists(key):
            options = "-o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
            environment["GIT_SSH_COMMAND"] = f"ssh -i {key} {options}"
        rc, out, err = self.module.run_command(["git", *words], environ_update=environment)
        if rc:
            reason = [line for line in err.splitlines() if line.strip()]
            self.fail(
                f"web_app_repository: git {words[0]} failed, and what serves was not touched: {' '.join(reason[:2])}"
            )
        return out

    def commit(self, source: dict[str, Any]) -> str:
        """The full commit of the revision. A revision that is one costs no look at the repository."""
        revision = source.get("revision") or "HEAD"
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return str(revision)
        if self.module.check_mode and not self.module.get_bin_path("git"):
            return "unknown"
        digest = ref_digest(self.git("ls-remote", source["repository"]), revision)
        if not digest:
            self.fail(f"web_app_revision: {source['repository']} has no branch and no tag '{revision}'.")
        return digest

    def build(self, source: dict[str, Any], digest: str) -> None:
        path = self.path(self.id)
        if os.path.lexists(path):
            shutil.rmtree(path)
        os.makedirs(path, mode=0o750)
        if source["repository"]:
            self.clone(source["repository"], digest)
        self.unpack(self.p["archive"] or f"{path}/{MARK}.tar")
        requirements = os.path.basename(source["requirements"]) if source.get("wheel") else source["requirements"]
        if requirements and not os.path.isfile(f"{path}/{requirements}"):
            self.abandon(f"web_app_requirements: the source has no file {requirements}; lock the dependencies into it.")
        user = pwd.getpwnam(self.app)
        # Setup scripts run while packages are installed: as the application's user, never as root.
        self.own(path, user.pw_uid, user.pw_gid, None)
        self.as_app("The virtual environment", [self.p["python"], "-m", "venv", f"{path}/.venv"])
        self.install(path, requirements, source.get("wheel") or "")
        python = f"{path}/.venv/bin/python"
        # On all processors, which pip does not do.
        self.as_app("", [python, "-m", "compileall", "-q", "-j", "0", "."], check=False)
        self.own(path, 0, grp.getgrnam(self.app).gr_gid, 0o750)

    def clone(self, repository: str, digest: str) -> None:
        mirror = f"{self.root}/repository.git"
        if not os.path.isdir(mirror):
            self.git("init", "--quiet", "--bare", mirror)
        has = ["git", "-C", mirror, "cat-file", "-e", f"{digest}^{{commit}}"]
        if self.module.run_command(has)[0]:
            refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            self.git("-C", mirror, "fetch", "--quiet", "--prune", repository, *refs)
        if self.module.run_command(has)[0]:
            self.abandon(f"web_app_revision: {repository} has no commit {digest}.")
        self.git("-C", mirror, "archive", "-o", f"{self.path(self.id)}/{MARK}.tar", digest)

    def unpack(self, archive: str) -> None:
        path = self.path(self.id)
        with tarfile.open(archive) as handle:
            # Python before 3.12 may not know filters; what arrives here was packed by git or by the controller.
            safe: dict[str, Any] = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
            handle.extractall(path, **safe)  # noqa: S202
        if os.path.dirname(archive) == path:
            os.unlink(archive)

    def install(self, path: str, requirements: str, wheel: str) -> None:
        pip = [
            f"{path}/.venv/bin/python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--no-compile",
            "--disable-pip-version-check",
        ]
        if requirements:
            with open(f"{path}/{requirements}", encoding="utf-8", errors="replace") as handle:
                hashes = ["--require-hashes"] if "--hash=" in handle.read() else []
            self.as_app(f"web_app_requirements: {requirements}", [*pip, *hashes, "-r", requirements])
        if wheel:
            target = wheel if "://" in wheel else f"./{os.path.basename(wheel)}"
            self.as_app(f"web_app_wheel: {target}", [*pip, *(["--no-deps"] if requirements else []), target])

    def as_app(self, what: str, command: list[str], check: bool = True) -> None:
        cache = f"/var/cache/{self.app}"
        rc, out, err = self.module.run_command(
            ["setpriv", "--reuid", self.app, "--regid", self.app, "--init-groups", *command],
            cwd=self.path(self.id),
            environ_update={"HOME": cache, "PIP_CACHE_DIR": f"{cache}/pip", "LC_ALL": "C.UTF-8"},
        )
        if rc and check:
            self.abandon(f"{what} could not be installed: {pip_complaint(err + out)}")

    def own(self, path: str, uid: int, gid: int, mode: int | None) -> None:
        """Gives a tree to somebody; C(mode) holds for directories and, without its x, for what cannot be run."""
        for base, folders, names in os.walk(path):
            for entry in (base, *(os.path.join(base, name) for name in [*folders, *names])):
                os.lchown(entry, uid, gid)
                if mode is not None and not os.path.islink(entry):
                    runnable = os.path.isdir(entry) or os.stat(entry).st_mode & 0o100
                    os.chmod(entry, mode if runnable else mode & 0o666)

    def prune(self) -> None:
        """Removes what is beyond the number to keep, and what never got complete."""
        found = [os.path.basename(path) for path in glob.glob(f"{self.root}/releases/*")]
        marks = {release: self.mark(release) for release in found}
        newest = sorted(found, key=lambda release: float(marks[release].get("built", 0)), reverse=True)
        current = self.link("current")
        kept = {self.id, current, self.link("candidate"), marks.get(current, {}).get("previous", "")}
        # The way back counts among those that are kept; only a small number makes it come on top.
        room = [release for release in newest if release not in kept and marks[release]]
        keep = kept.union(room[: max(self.p["keep"] - len(kept.intersection(found)), 0)])
        for release in found:
            if release not in keep:
                shutil.rmtree(self.path(release), ignore_errors=True)

    # Switching

    def chosen(self) -> None:
        current = self.link("current")
        found = [os.path.basename(path) for path in glob.glob(f"{self.root}/releases/*")]
        there = sorted(filter(self.complete, found), key=lambda release: float(self.mark(release).get("built", 0)))
        wanted = self.id or self.mark(current).get("previous", "")
        if wanted not in there:
            asked = f"release {wanted} is not on this host" if wanted else "there is no release before the current one"
            known = f"there are {', '.join(there) or 'none'}, and {current or 'none'} is the current one"
            self.fail(f"web_app_release: {asked}; {known}.")
        self.id = wanted
        self.answer()

    def place_link(self, name: str, release: str) -> None:
        path = f"{self.root}/{name}"
        if os.path.lexists(path + ".new"):
            os.unlink(path + ".new")
        os.symlink(f"releases/{release}", path + ".new")
        os.replace(path + ".new", path)

    def systemctl(self, *words: str) -> bool:
        return bool(self.module.run_command(["systemctl", *words])[0] == 0)

    def divert(self) -> None:
        """Leads new connections to the candidate. A socket is found by its name, so a rename does it at once."""
        os.link(f"{self.run_dir}/web.sock", f"{self.run_dir}/main.sock")
        os.rename(f"{self.run_dir}/candidate.sock", f"{self.run_dir}/web.sock")

    def return_traffic(self) -> None:
        """Leads new connections to the service again, then lets the candidate finish what it has."""
        if self.diverted():
            os.rename(f"{self.run_dir}/main.sock", f"{self.run_dir}/web.sock")
            # A connection that was made a moment ago has been read by then.
            time.sleep(0.5)
        elif os.path.lexists(f"{self.run_dir}/main.sock"):
            os.unlink(f"{self.run_dir}/main.sock")

    def stop_candidate(self, *options: str) -> None:
        self.systemctl("stop", *options, f"{self.app}-candidate.socket", self.candidate)

    def live(self) -> None:
        before = self.link("current")
        diff = {
            "before": f"{self.root}/current -> {before or 'nothing'}\n",
            "after": f"{self.root}/current -> {self.id}\n",
        }
        if self.module.check_mode:
            self.module.exit_json(changed=True, id=self.id, current=before, pending=True, settled=False, diff=diff)
        if self.p["remember"] and before and before != self.id:
            self.set_mark(self.id, previous=before)
        self.return_traffic()
        self.stop_candidate()
        self.place_link("candidate", self.id)
        if self.p["migrate"]:
            self.migrate()
        if self.p["serve"]:
            self.try_candidate(before)
        if before != self.id:
            self.set_mark(self.id, good=False, before=before)
            self.place_link("current", self.id)
        self.module.exit_json(changed=True, id=self.id, current=self.id, pending=False, settled=False, diff=diff)

    def migrate(self) -> None:
        since = time.time()
        if not self.systemctl("start", f"{self.app}-migrate.service"):
            self.fail(
                f"The migration of release {self.id} failed, so it was not switched to and what serves was not touched."
                + self.journal(f"{self.app}-migrate.service", since)
            )

    def try_candidate(self, before: str) -> None:
        since = time.time()
        self.systemctl("start", f"{self.app}-candidate.socket")
        self.systemctl("start", "--no-block", self.candidate)
        trouble = self.wait(f"{self.run_dir}/candidate.sock", self.candidate)
        if trouble:
            self.stop_candidate()
            serving = f"{before} keeps serving" if before else "nothing serves yet"
            text = f"Release {self.id} {trouble} on {self.p['health_path']}; {serving}."
            self.fail(text + self.journal(self.candidate, since))
        serves = self.unit(self.web).get("ActiveState") == "active" and os.path.exists(f"{self.run_dir}/web.sock")
        if serves:
            self.divert()
        else:
            self.stop_candidate()

    def settled(self) -> None:
        self.id = self.link("current")
        if self.module.check_mode:
            self.module.exit_json(changed=False, id=self.id, current=self.id, pending=False, settled=False)
        since = time.time() - self.p["health_timeout"]
        trouble = self.wait(self.main_socket(), self.web) if self.p["serve"] else ""
        if trouble:
            self.take_back(trouble, since)
        self.set_mark(self.id, good=True)
        self.return_traffic()
        self.stop_candidate("--no-block")
        self.module.exit_json(changed=True, id=self.id, current=self.id, pending=False, settled=True)

    def main_socket(self) -> str:
        return f"{self.run_dir}/main.sock" if self.diverted() else f"{self.run_dir}/web.sock"

    def take_back(self, trouble: str, since: float) -> None:
        mark = self.mark(self.id)
        previous = mark.get("before", "")
        text = f"Release {self.id} {trouble} on {self.p['health_path']}"
        journal = self.journal(self.web, since)
        if mark.get("good"):
            self.fail(f"{text}, and it did before; see to what it needs (database, broker, environment).{journal}")
        if not self.complete(previous):
            self.fail(f"{text}, and there is no release to return to.{journal}")
        self.place_link("current", previous)
        self.systemctl("restart", self.web)
        again = self.wait(self.main_socket(), self.web)
        self.return_traffic()
        self.stop_candidate("--no-block")
        self.fail(f"{text}; {previous} {'serves again' if not again else f'was put back and {again} too'}.{journal}")


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    releases = Releases(module)
    # A controller that died leaves its module running here; two builds of one release would mix.
    with open(f"{LOCKS}/bulwark-release-{module.params['app']}", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        getattr(releases, module.params["state"])()


if __name__ == "__main__":
    main()
