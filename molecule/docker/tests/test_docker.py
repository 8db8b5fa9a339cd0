"""The engine behaves: what runs in it, what it binds, what survives a change."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

SERVE = "/bin/busybox httpd -f -p 80 -h /bin"


def facts(run, what, name):
    return json.loads(run(f"docker {what} {name}".strip() + " --format '{{json .}}'"))


def main_pid(run):
    return run("systemctl show -p MainPID --value docker").strip()


def listeners(run, port):
    return {line.split()[3] for line in run(f"ss -Hltn 'sport = :{port}'").splitlines()}


def old_engine(run):
    return run("dockerd --version").split()[2].startswith("20.")


@pytest.fixture(scope="module")
def converge(host):
    """Applies the role again with other variables; gives the output."""

    def _converge(variables, ok=True):
        name = host.backend.get_pytest_id().split("://")[1]
        command = [
            "ansible-playbook",
            "-i",
            os.environ["MOLECULE_INVENTORY_FILE"],
            "-l",
            name,
            "-e",
            json.dumps(variables),
        ]
        playbook = os.path.join(os.environ["MOLECULE_PROJECT_DIRECTORY"], "molecule/shared/converge.yml")
        done = subprocess.run([*command, playbook], capture_output=True, text=True, env=os.environ)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout

    return _converge


@pytest.fixture(scope="module")
def container(host):
    """A web server whose published port names no address; removed at the end."""
    host.run("docker image inspect test:1 || docker import /root/image.tar test:1")
    started = host.run(f"docker run -d --name web -p 8081:80 test:1 {SERVE}")
    assert started.rc == 0, started.stderr
    yield "web"
    host.run("docker rm -f web")


def test_engine_runs(running):
    running("docker.service")


def test_engine_that_was_there_before(host, run, converge):
    """Its container did not notice the role; what had to wait for that is told until it is in effect."""
    if not host.file("/root/survivor.pid").exists:
        pytest.skip("this host was new")
    assert run("docker inspect -f '{{.State.Pid}}' survivor") == run("cat /root/survivor.pid")
    assert "start once without containers" in converge({})
    run("docker rm -f survivor && systemctl reset-failed docker && systemctl restart docker")
    assert "start once without containers" not in converge({})


def test_engine_works_with_our_settings(run):
    info = facts(run, "info", "")
    assert info["LoggingDriver"] == "local"
    assert info["LiveRestoreEnabled"] is True
    assert {"Base": "172.28.0.0/14", "Size": 24} in info["DefaultAddressPools"]


def test_log_is_rotated(run, container):
    config = facts(run, "inspect", container)["HostConfig"]["LogConfig"]
    assert config == {"Type": "local", "Config": {"max-file": "5", "max-size": "10m"}}


def test_container_gains_no_privileges(run, container):
    status = run(f"docker exec {container} /bin/busybox cat /proc/self/status")
    assert "NoNewPrivs:\t1" in status


def test_published_port_is_on_loopback_only(host, run, container):
    assert run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8081/busybox") == "200"
    address = host.run("hostname -I").stdout.split()[0]
    assert host.run(f"curl -s -m 3 -o /dev/null http://{address}:8081/busybox").rc != 0


def test_network_of_ones_own_is_on_loopback_too(host, run, container):
    """As Compose makes them; the engine of Debian 12 cannot, and the role says so."""
    run(f"docker network create own && docker run -d --name own --network own -p 8082:80 test:1 {SERVE}")
    ports = facts(run, "inspect", "own")["NetworkSettings"]["Ports"]["80/tcp"]
    run("docker rm -f own && docker network rm own")
    assert {port["HostIp"] for port in ports} - {"::"} == {"0.0.0.0" if old_engine(run) else "127.0.0.1"}


def test_containers_reach_each_other(host, run, container):
    address = run(f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {container}").strip()
    # The first network of an engine that was there before keeps its addresses.
    assert host.file("/root/survivor.pid").exists or address.startswith("172.28.")
    run(f"docker run --rm test:1 /bin/busybox wget -q -O /dev/null http://{address}/busybox")


def test_compose(run):
    if old_engine(run):
        pytest.skip("Debian 12 has no package of Compose v2")
    assert run("docker compose version --short").startswith("2.")


def test_metrics_on_loopback(run):
    assert listeners(run, 9323) == {"127.0.0.1:9323"}
    assert "engine_daemon_engine_info" in run("curl -s http://127.0.0.1:9323/metrics")


def test_user_uses_the_engine(run):
    run("su builder -c 'docker ps'")


def test_pinned_engine_is_held(run):
    held = set(run("apt-mark showhold").split())
    assert held == (set() if old_engine(run) else {"docker.io", "docker-cli", "containerd", "runc"})


def test_prune_is_scheduled_and_works(run, running):
    running("docker-prune.timer")
    assert "docker-prune.timer" in run("systemctl list-timers --no-legend docker-prune.timer")
    run("systemctl start docker-prune.service")
    assert run("docker images -q test:1").strip()


def test_prune_is_sandboxed(exposure):
    assert exposure("docker-prune.service") <= 2.0


def test_reload_is_enough_for_a_label(run, converge, container):
    before = main_pid(run)
    said = converge({"docker_settings": {"labels": ["place=here"]}})
    assert main_pid(run) == before
    assert facts(run, "info", "")["Labels"] == ["place=here"]
    assert "changed=2" in said


def test_restart_leaves_the_container_running(run, converge, container):
    engine, pid = main_pid(run), facts(run, "inspect", container)["State"]["Pid"]
    converge({"docker_log_files": 3})
    assert main_pid(run) != engine
    assert facts(run, "inspect", container)["State"]["Pid"] == pid
    assert run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8081/busybox") == "200"


def test_killed_engine_comes_back_and_leaves_the_container_running(run, container):
    pid = facts(run, "inspect", container)["State"]["Pid"]
    # The tests before this one restarted it more often than its unit allows.
    run("systemctl reset-failed docker; systemctl kill -s KILL docker.service")
    run("sleep 1; for i in $(seq 30); do docker ps && exit; sleep 1; done; exit 1")
    assert facts(run, "inspect", container)["State"]["Pid"] == pid


def test_misspelt_option_is_refused(run, converge):
    assert "Did you mean 'log-driver'?" in converge({"docker_settings": {"log-drvier": "local"}}, ok=False)


def test_option_that_nobody_knows(run, converge):
    """A newer engine refuses it itself, an older one would no longer start."""
    engine = main_pid(run)
    assert "chocolate" in converge({"docker_settings": {"chocolate": 1}}, ok=old_engine(run))
    assert "chocolate" not in run("cat /etc/docker/daemon.json")
    run("docker ps")
    assert old_engine(run) or main_pid(run) == engine
