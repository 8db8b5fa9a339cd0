"""Releases: what serves, what a bad one does not break, and the way back. With requests running all the time."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).parents[1] / "files"
SECRET = 'quote" dollar$ back\\slash hush-hush-hush'
HEALTH = "curl -s --max-time 20 --unix-socket /run/app/web.sock http://app.example.test"
# One request after the other in four lanes, each on a connection of its own, as nginx makes them.
TRAFFIC = r"""
import http.client, os, socket, threading, time
answers = {}
def lane():
    while not os.path.exists("/run/traffic-stop"):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(30)
                s.connect("/run/app/web.sock")
                s.sendall(b"GET /any HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
                response = http.client.HTTPResponse(s)
                response.begin()
                body = response.read().decode()
                key = f"{response.status} " + (body.split('"')[3] if '"' in body else body[:60])
        except Exception as exc:
            key = f"failed {type(exc).__name__} {exc}"
        answers[key] = answers.get(key, 0) + 1
        time.sleep(0.01)
end = time.time() + 300
threads = [threading.Thread(target=lane) for _ in range(4)]
[t.start() for t in threads]
while any(t.is_alive() for t in threads) and time.time() < end:
    time.sleep(0.1)
open("/run/traffic-stop", "w").close()
[t.join() for t in threads]
import json
print(json.dumps(answers))
"""


@pytest.fixture
def traffic(host: Any, run: Any) -> Any:
    """Sends requests until it is asked for the answers: a count of each."""
    host.run("rm -f /run/traffic-stop /run/traffic.json")
    run("cat > /run/traffic.py <<'EOF'\n" + TRAFFIC + "\nEOF\n")
    run("systemd-run --quiet --unit=traffic --collect sh -c 'exec python3 /run/traffic.py > /run/traffic.json'")

    def _answers() -> dict[str, int]:
        run("touch /run/traffic-stop; for i in $(seq 300); do [ -s /run/traffic.json ] && break; sleep 0.1; done")
        return dict(json.loads(run("cat /run/traffic.json")))

    yield _answers
    host.run("touch /run/traffic-stop; systemctl stop traffic")


@pytest.fixture
def playbook(host: Any, tmp_path: Path) -> Any:
    """Runs one of the collection's playbooks against this host, by its name in the collection."""

    def _playbook(name: str, *arguments: str, ok: bool = True, **variables: Any) -> str:
        groups = tmp_path / "groups.ini"
        groups.write_text(f"[web]\n{host.backend.get_hostname()}\n")
        inventories = ["-i", os.environ["MOLECULE_INVENTORY_FILE"], "-i", str(groups)]
        limit = ["-l", host.backend.get_hostname()]
        command = [
            "ansible-playbook",
            *inventories,
            *limit,
            "-e",
            json.dumps(variables),
            *arguments,
            f"bulwark.stack.{name}",
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert (result.returncode == 0) is ok, result.stdout + result.stderr
        return result.stdout + result.stderr

    return _playbook


def source(version: str) -> str:
    return str(FILES / version)


def current(run: Any) -> str:
    return run("basename $(readlink /srv/app/current)").strip()


def serving(run: Any) -> Any:
    return json.loads(run(HEALTH + "/health"))["release"]


def test_it_serves(run, running):
    running("app-web.socket")
    running("app-web.service")
    answer = json.loads(run(HEALTH + "/health"))
    assert answer["release"] == "v1"
    assert answer["secret_length"] == len(SECRET)
    assert "failed" not in run("systemctl is-active app-candidate.service", ok=False)


def test_headers_of_nginx_are_trusted(run):
    assert json.loads(run(HEALTH + "/ -H 'X-Forwarded-Proto: https'"))["scheme"] == "https"


def test_two_workers_answer(run):
    pids = {json.loads(run(HEALTH + "/"))["pid"] for _ in range(30)}
    assert len(pids) == 2


def test_only_nginx_and_the_application_may_connect(run):
    assert run("stat -c '%U:%G %a' /run/app/web.sock").strip() == "app:www-data 660"
    assert "Permission denied" in run(
        "setpriv --reuid nobody --regid nogroup --clear-groups python3 -c "
        "'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/app/web.sock\")'",
        ok=False,
    )


def test_secret_is_in_one_file_and_on_no_command_line(run):
    assert run("stat -c '%U:%G %a' /etc/app/environment").strip() == "root:app 640"
    assert "hush-hush" not in run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; cat /etc/systemd/system/app-*")


def test_code_belongs_to_root(run):
    assert run("find /srv/app/current/ ! -user root -o -perm /027 ! -type l ! -name .release.json").strip() == ""
    assert "Permission denied" in run("runuser -u app -- touch /srv/app/current/x", ok=False)


def test_migration_ran_once(run):
    assert len(run("cat /srv/app/shared/migrations").splitlines()) == 1


def test_limits_and_sandbox(run, exposure):
    memory = int(run("systemctl show -p MemoryMax --value app-web.service")) // 1048576
    assert 56 <= memory < int(run("awk '/MemTotal/{print int($2/1024)}' /proc/meminfo"))
    assert exposure("app-web.service") <= 2.0


def test_killed_server_comes_back(run):
    run("systemctl kill -s KILL app-web.service")
    assert serving(run) == "v1"


def test_request_under_way_is_finished(run):
    out = run(f"{HEALTH}/slow & sleep 0.5; systemctl restart app-web.service; wait; {HEALTH}/health")
    assert out.count('"v1"') == 2


def test_clean_up(run):
    for path, days in (
        ("/srv/app/shared/media/old", 8),
        ("/srv/app/shared/media/new", 6),
        ("/var/log/app/app.9.gz", 31),
    ):
        run(f"install -o app -g app -m 640 /dev/null {path}; touch -d '{days} days ago' {path}")
    run("echo line > /var/log/app/app.log; chown app:app /var/log/app/app.log")
    run("systemd-tmpfiles --clean; logrotate -f /etc/logrotate.d/app")
    assert run("ls /srv/app/shared/media").split() == ["new"]
    assert run("ls /var/log/app").split() == ["app.log", "app.log.1"]
    assert run("systemctl is-active systemd-tmpfiles-clean.timer").strip() == "active"


def test_media_can_be_served_by_nginx(run):
    run("runuser -u app -- sh -c 'umask 027; mkdir -p /srv/app/shared/media/a; echo hello > /srv/app/shared/media/a/b'")
    assert run("runuser -u www-data -- cat /srv/app/shared/media/a/b").strip() == "hello"
    run("rm -r /srv/app/shared/media/a")


# Each kind of bad release on one of the two systems, and on both with BULWARK_FULL=1.
BAD = {
    "v3": ("debian13", 6, "v3 cannot start with ********"),
    "v4": ("debian12", 8, "answers 500 after 8 s"),
    "v5": ("debian13", 10, "answers 500 after 10 s on /health; {} serves again"),
}


def only_on(host: Any, system: str) -> bool:
    return bool(os.environ.get("BULWARK_FULL")) or host.backend.get_hostname().endswith(system)


def test_releases(host, run, playbook, traffic):
    """A good release, bad ones and the way back cost no request."""
    first = current(run)
    playbook("deploy", web_app_directory=source("v2"))
    assert serving(run) == "v2"
    second = current(run)

    for version, (system, seconds, sentence) in BAD.items():
        if only_on(host, system):
            bad = {"web_app_directory": source(version), "web_app_health_timeout_seconds": seconds}
            out = playbook("deploy", "-vvv", "--diff", ok=False, **bad)
            assert sentence.format(second) in out
            assert f"{second} keeps serving" in out or version == "v5"
            assert "hush-hush" not in out
            assert (serving(run), current(run)) == ("v2", second)

    out = playbook("rollback_release")
    assert f"runs release {first}, after {second}" in out
    assert (serving(run), current(run)) == ("v1", first)

    answers = traffic()
    allowed = {"200 v1", "200 v2"} | ({"200 v5"} if only_on(host, BAD["v5"][0]) else set())
    assert set(answers) == allowed, answers
    assert min(answers["200 v1"], answers["200 v2"]) > 50
    assert "main.sock" not in run("ls /run/app")


def test_named_release_that_is_not_there(run, playbook):
    out = playbook("rollback_release", ok=False, web_app_release="0000")
    assert "release 0000 is not on this host; there are" in out
    assert serving(run) == "v1"


def test_new_environment_and_new_unit_cost_no_request(host, run, converge, traffic):
    if not only_on(host, "debian12"):
        pytest.skip("on debian12 only")
    converge(web_app_environment={"APP_SECRET": "another-secret"})
    assert json.loads(run(HEALTH + "/health"))["secret_length"] == len("another-secret")
    converge(web_app_environment={"APP_SECRET": "another-secret"}, web_app_workers=1)
    assert "--workers 1" in run("ps -o args= -u app")
    answers = traffic()
    assert set(answers) == {"200 v1"}, answers


def test_run_that_is_killed_is_finished_by_the_next(host, run, converge):
    """Killed in the moment in which the traffic is led to the candidate."""
    if not only_on(host, "debian13"):
        pytest.skip("on debian13 only")
    play = Path(__file__).parents[2] / "shared/converge.yml"
    inventory, limit = os.environ["MOLECULE_INVENTORY_FILE"], host.backend.get_hostname()
    variables = json.dumps({"web_app_directory": source("v2")})
    deploy = subprocess.Popen(
        ["ansible-playbook", "-i", inventory, "-l", limit, "-e", variables, str(play)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    run("for i in $(seq 600); do [ -S /run/app/main.sock ] && exit 0; sleep 0.1; done; exit 1")
    deploy.kill()
    deploy.wait()
    assert serving(run) in ("v1", "v2")
    out = converge(web_app_directory=source("v2"))
    assert "failed=0" in out
    assert serving(run) == "v2"
    assert "main.sock" not in run("ls /run/app")
    assert "changed=0" in converge(web_app_directory=source("v2"))


def test_git(host, run, converge):
    """A branch of a repository; the second run finds its commit; a revision that is not there is a sentence."""
    if not only_on(host, "debian13"):
        pytest.skip("on debian13 only")
    git = "git -c user.name=t -c user.email=t@example.test -C /root/shop"
    run(
        "apt-get install -qq -y --no-install-recommends git >/dev/null; rm -rf /root/shop; git init -qb main /root/shop"
    )
    run("cp -r /srv/app/current/app /srv/app/current/requirements.txt /srv/app/current/migrate.py /root/shop/")
    run(f'sed -i \'s/"v2"/"git"/\' /root/shop/app/main.py; {git} add -A; {git} commit -q -m one')
    shop = {"web_app_directory": "", "web_app_repository": "file:///root/shop", "web_app_revision": "main"}
    run("mkdir -p /srv/app/releases/half-built/app")
    converge(**shop)
    assert serving(run) == "git"
    assert "half-built" not in run("ls /srv/app/releases")
    assert current(run).startswith(run(f"{git} rev-parse HEAD")[:12])
    assert "changed=0" in converge(**shop)
    out = converge(ok=False, **{**shop, "web_app_revision": "v9"})
    assert "has no branch and no tag 'v9'" in out
    assert serving(run) == "git"


def wheel(folder: Path, requires: str) -> str:
    """A wheel of one module, a WSGI application."""
    path = folder / "shop-1.0-py3-none-any.whl"
    lines = ["RELEASE = 'wheel'", "", "def app(environ, start):", "    start('200 OK', [])"]
    lines += ['    return [b\'{"release": "wheel"}\']']
    info = "shop-1.0.dist-info"
    files = {
        "shop.py": "\n".join(lines) + "\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: shop\nVersion: 1.0\nRequires-Dist: {requires}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return str(path)


def test_wheel_and_gunicorn(host, run, converge, tmp_path):
    if not only_on(host, "debian12"):
        pytest.skip("on debian12 only")
    shop = {"web_app_directory": "", "web_app_server": "gunicorn", "web_app_module": "shop:app"}
    shop["web_app_migration_command"] = ""
    before = serving(run)
    out = converge(ok=False, web_app_wheel=wheel(tmp_path, "no-such-package-of-bulwark==9"), **shop)
    assert "could not be built, and what serves was not touched" in out
    assert "No matching distribution found for no-such-package-of-bulwark==9" in out
    assert serving(run) == before
    converge(web_app_wheel=wheel(tmp_path, "gunicorn==23.0.0"), **shop)
    assert serving(run) == "wheel"
    assert "gunicorn" in run("ps -o args= -u app")


def test_python_that_is_not_there(host, run, converge):
    if not only_on(host, "debian12"):
        pytest.skip("on debian12 only")
    assert "there is no /opt/python9 on this host" in converge(ok=False, web_app_python="/opt/python9")


def test_releases_without_a_service(host, run, converge):
    """A host for workers has the release and no server."""
    if not only_on(host, "debian13"):
        pytest.skip("on debian13 only")
    converge(web_app_serve=False)
    assert run("systemctl is-active app-web.socket app-web.service", ok=False).split() == ["inactive", "inactive"]
    assert "changed=0" in converge(web_app_serve=False)
    run("/srv/app/current/.venv/bin/uvicorn --version")
