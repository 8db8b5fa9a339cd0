"""The exporter answers whom it should, and the metrics tell the truth."""

from __future__ import annotations

import calendar
import re
import time

import pytest

UNIT = "prometheus-node-exporter.service"
CA = "--cacert /etc/ssl/exporter.crt"


@pytest.fixture
def protected(host):
    return host.file("/etc/node_exporter/web.yml").exists


@pytest.fixture
def metrics(run, protected):
    """Reads the metrics after the producer has run: name with its labels to value."""

    def _metrics():
        # The tests start it more often than systemd allows by itself.
        run("systemctl reset-failed node-exporter-textfile.service; systemctl start node-exporter-textfile.service")
        url = "https://localhost:9100" if protected else "http://localhost:9100"
        user = f"{CA} -u prometheus:watch-the-host" if protected else ""
        text = run(f"curl -sf {user} {url}/metrics")
        return {name: float(value) for name, value in re.findall(r"^([^#\s]\S*(?: \S+=\S*)*?) (\S+)$", text, re.M)}

    return _metrics


def test_exporter_runs(running):
    running(UNIT)


def test_who_gets_an_answer(host, run, protected):
    address = host.run("hostname -I").stdout.split()[0]
    code = "curl -sk -m 3 -o /dev/null -w '%{http_code}'"
    if not protected:
        assert run(f"{code} http://127.0.0.1:9100/metrics") == "200"
        assert host.run(f"curl -s -m 3 http://{address}:9100/metrics").rc == 7
        return
    for place in ("127.0.0.1", address):
        assert run(f"{code} https://{place}:9100/metrics") == "401"
        assert run(f"{code} -u prometheus:guess https://{place}:9100/metrics") == "401"
        assert run(f"{code} -u prometheus:watch-the-host https://{place}:9100/metrics") == "200"
    assert run(f"{code} http://127.0.0.1:9100/metrics") == "400"
    assert host.run(f"curl -sf {CA} --tls-max 1.1 https://localhost:9100/").rc == 35


def test_sandbox_hides_nothing_that_is_measured(run, metrics):
    """Each collector that works outside the sandbox works in it."""
    run(
        "systemd-run -q --unit=outside -p User=prometheus /usr/bin/prometheus-node-exporter "
        "--web.listen-address=127.0.0.1:9199; for i in $(seq 20); do ss -Hltn | grep -q :9199 && exit; sleep 0.5; done"
    )
    outside = set(run("curl -s 127.0.0.1:9199/metrics | grep collector_success | grep ' 1$' | cut -d' ' -f1").split())
    run("systemctl stop outside")
    found = metrics()
    assert len(outside) > 20
    assert not {name for name in outside if not found[name]}
    assert found["node_textfile_scrape_error"] == 0
    assert "node_timex_offset_seconds" in found
    # The mounts of the host, not those of the sandbox, where nearly all is read-only.
    assert 0 in [value for name, value in found.items() if name.startswith("node_filesystem_readonly")]


def test_reboot_that_packages_ask_for(run, metrics):
    assert metrics()["node_reboot_required"] == 0
    run("touch /run/reboot-required")
    required = metrics()["node_reboot_required"]
    run("rm /run/reboot-required")
    assert required == 1


def test_reboot_that_a_newer_kernel_asks_for(run, metrics):
    newer = run("uname -r | sed 's/^[0-9]*/99/'").strip()
    run(f"touch /boot/vmlinuz-{newer}")
    found = metrics()
    run(f"rm /boot/vmlinuz-{newer}")
    assert found["node_reboot_required"] == 1
    assert any(name.startswith("node_kernel_info") and f'newest="{newer}"' in name for name in found)
    assert metrics()["node_reboot_required"] == 0


def test_failed_unit_is_counted(host, run, metrics):
    before = metrics()["node_systemd_failed_units"]
    host.run("systemd-run --unit=broken --wait false")
    found = metrics()
    run("systemctl reset-failed broken")
    assert found["node_systemd_failed_units"] == before + 1
    assert found['node_systemd_unit_failed{name="broken.service"}'] == 1


def test_end_of_certificates(run, metrics):
    found = metrics()
    end = run("openssl x509 -noout -enddate -in /etc/ssl/exporter.crt").strip().partition("=")[2]
    expected = calendar.timegm(time.strptime(end, "%b %d %H:%M:%S %Y GMT"))
    assert found['node_certificate_expiry_timestamp_seconds{path="/etc/ssl/exporter.crt"}'] == expected
    assert found['node_certificate_readable{path="/etc/ssl/exporter.crt"}'] == 1
    assert found['node_certificate_readable{path="/etc/ssl/nowhere.crt"}'] == 0


def test_certificates_of_letsencrypt(run, metrics):
    run("install -d -m 0700 /etc/letsencrypt /etc/letsencrypt/live /etc/letsencrypt/live/example.org")
    run("cp /etc/ssl/exporter.crt /etc/letsencrypt/live/example.org/cert.pem")
    found = metrics()
    run("rm -r /etc/letsencrypt")
    assert found['node_certificate_readable{path="/etc/letsencrypt/live/example.org/cert.pem"}'] == 1


def test_upgrades_are_what_apt_says(run, metrics):
    found = metrics()
    counted = sum(value for name, value in found.items() if name.startswith("apt_upgrades_pending"))
    assert counted == int(run("apt-get -s dist-upgrade | grep -c ^Inst || true"))
    assert found["apt_autoremove_pending"] == int(run("apt-get -s autoremove | grep -c ^Remv || true"))
    assert all(found[f'node_textfile_producer_success{{group="{group}"}}'] for group in ("apt", "reboot", "units"))


def test_producer_is_scheduled(run, running):
    running("node-exporter-textfile.timer")
    assert "node-exporter-textfile" in run("systemctl list-timers --no-legend node-exporter-textfile.timer")


def test_sandbox(exposure):
    assert exposure(UNIT) <= 3.0
    assert exposure("node-exporter-textfile.service") <= 3.0


def test_exporter_is_not_root(run):
    assert run(f"ps -o user= -p $(systemctl show -p MainPID --value {UNIT})").strip() != "root"


def test_killed_exporter_comes_back(run):
    run(
        f"systemctl kill -s KILL {UNIT}; for i in $(seq 20); do ss -Hltn | grep -q :9100 && exit; sleep 1; done; exit 1"
    )
