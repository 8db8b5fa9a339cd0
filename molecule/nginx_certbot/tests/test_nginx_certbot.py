"""What a client of the sites sees, how certificates come and go, and that bad data changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest

ROOT = "/root/pebble-root.pem"
CURL = f"curl -sS --max-time 10 --cacert {ROOT}"
APP = "https://app.bulwark.test"


@pytest.fixture(autouse=True)
def trust(run):
    """Pebble makes a new root each time that it starts."""
    run(f"curl -sSf --cacert /etc/pebble/ca.pem https://localhost:15000/roots/0 -o {ROOT}")


@pytest.fixture
def status(run):
    def _status(words: str, ok: bool = True) -> str:
        return run(f"{CURL} -o /dev/null -w '%{{http_code}}' {words}", ok=ok).strip()

    return _status


@pytest.fixture
def converge(host):
    """Runs the role on this host with other variables; gives the end of the output."""

    def _converge(**variables) -> tuple[int, str]:
        scenario = os.environ["MOLECULE_SCENARIO_DIRECTORY"]
        command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "../shared/converge.yml"]
        words = ["--limit", host.backend.get_hostname(), "-e", json.dumps(variables)]
        environment = {**os.environ, "ANSIBLE_CACHE_PLUGIN": "memory"}
        done = subprocess.run([*command, *words], cwd=scenario, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return _converge


@pytest.fixture
def serial(run):
    def _serial(name: str = "app.bulwark.test") -> str:
        connect = f"openssl s_client -connect 127.0.0.1:443 -servername {name} </dev/null 2>/dev/null"
        return run(f"{connect} | openssl x509 -noout -serial").strip()

    return _serial


def test_it_runs(running):
    running("nginx.service")
    running("certbot.timer")


def test_answer_over_trusted_tls(run):
    answer = json.loads(run(f"{CURL} {APP}/hello?a=1"))
    assert answer["path"] == "/hello?a=1"
    assert answer["headers"]["X-Forwarded-Proto"] == "https"
    assert answer["headers"]["Host"] == "app.bulwark.test"


def test_client_cannot_forge_its_address(run):
    answer = json.loads(run(f"{CURL} -H 'X-Forwarded-For: 6.6.6.6' -H 'X-Forwarded-Proto: http' {APP}/plain"))
    assert answer["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert answer["headers"]["X-Forwarded-Proto"] == "https"


def test_http_2(run):
    assert run(f"{CURL} -o /dev/null -w '%{{http_version}}' {APP}/").strip() == "2"


def test_http_goes_to_https(run):
    out = run(f"{CURL} -o /dev/null -w '%{{http_code}} %{{redirect_url}}' http://app.bulwark.test/x?y=1")
    assert out == f"301 {APP}/x?y=1"


def test_redirecting_site(run):
    out = run(f"{CURL} -o /dev/null -w '%{{http_code}} %{{redirect_url}}' https://old.bulwark.test/x")
    assert out == f"301 {APP}/x"


def test_unknown_names_get_no_answer(run, status):
    assert status("http://127.0.0.1/", ok=False).startswith("000")
    assert "unrecognized name" in run(f"{CURL} --resolve x.test:443:127.0.0.1 https://x.test/", ok=False)


def test_headers(run):
    headers = run(f"{CURL} -D- -o /dev/null {APP}/").lower()
    for line in (
        "strict-transport-security: max-age=31536000",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "content-security-policy: default-src 'self'",
        "server: nginx\r",
    ):
        assert line in headers, headers


@pytest.mark.parametrize(("version", "works"), [("1_1", False), ("1_2", True), ("1_3", True)])
def test_tls_versions(host, version, works):
    # Without the security level the client itself would not offer the old version.
    command = f"openssl s_client -connect 127.0.0.1:443 -servername app.bulwark.test -tls{version}"
    done = host.run(f"{command} -cipher DEFAULT:@SECLEVEL=0 </dev/null")
    assert (done.rc == 0) is works, done.stdout + done.stderr


def test_websocket_passes(run):
    upgrade = "-H 'Connection: Upgrade' -H 'Upgrade: websocket'"
    out = run(f"{CURL} --http1.1 -i {upgrade} {APP}/ws", ok=False)
    assert out.startswith("HTTP/1.1 101"), out
    assert "hello from the other side" in out
    # Where it was not asked for, the server does not even see it.
    assert run(f"{CURL} --http1.1 -i {upgrade} {APP}/plain").startswith("HTTP/1.1 200")


def test_rate_limit(run):
    codes = run(
        f"seq 12 | xargs -P4 -I@ {CURL} -o /dev/null -w '%{{http_code}}\\n' {APP}/limited | sort | uniq -c"
    ).split()
    answers = dict(zip(codes[1::2], map(int, codes[::2])))
    assert set(answers) == {"200", "429"}
    assert 4 <= answers["200"] <= 6


def test_static_files_and_nothing_beside_them(run):
    assert run(f"{CURL} {APP}/media/file.txt").strip() == "static-content"
    # Without its slash the path is the application's, not a directory above the files.
    assert json.loads(run(f"{CURL} --path-as-is {APP}/media../echo.py"))["path"] == "/media../echo.py"


def test_allow_from(status):
    assert status(f"{APP}/closed") == "403"


def test_body_size(run, status):
    run("head -c 1000000 /dev/zero > /tmp/small; head -c 1100000 /dev/zero > /tmp/large")
    assert status(f"--data-binary @/tmp/small {APP}/") == "200"
    assert status(f"--data-binary @/tmp/large {APP}/") == "413"


def test_basic_auth_on_another_port_with_the_same_certificate(status):
    assert status(f"{APP}:5555/") == "401"
    assert status(f"-u operator:wrong {APP}:5555/") == "401"
    assert status(f"-u operator:correct-horse-battery {APP}:5555/") == "200"


@pytest.fixture
def public(run, stranger):
    """Runs curl on the other host, from a public address unless told otherwise; nobody is banned afterwards."""
    run("ip address replace 198.51.100.1/24 dev eth0")
    stranger("ip", "address", "replace", "198.51.100.2/24", "dev", "eth0")

    def _public(*words, to="198.51.100.1"):
        resolve = ["--connect-to", f"::{to}:", "-ksS", "--max-time", "3", "-o", "/dev/null", "-w", "%{http_code} "]
        return stranger("curl", *resolve, *words)

    yield _public
    run("fail2ban-client unban --all")
    run("ip address del 198.51.100.1/24 dev eth0")
    stranger("ip", "address", "del", "198.51.100.2/24", "dev", "eth0")


def banned(run, jail):
    for _wait in range(40):
        if found := run(f"fail2ban-client get {jail} banip").split():
            return found
        time.sleep(0.25)
    return []


@pytest.mark.parametrize(
    ("jail", "words"),
    [
        ("nginx-http-auth", ["-u", "operator:guess", "https://app.bulwark.test:5555/[1-5]"]),
        ("nginx-limit-req", [f"{APP}/limited?[1-140]"]),
    ],
)
def test_who_does_it_again_and_again_is_banned(run, public, jail, words):
    assert public(f"{APP}/").stdout.strip() == "200"
    assert "200" not in public(*words).stdout.replace("200", "", 4 if jail == "nginx-limit-req" else 0)
    assert banned(run, jail) == ["198.51.100.2"]
    assert "refused" in (said := public(f"{APP}/").stderr) or "connect" in said.lower()
    run(f"fail2ban-client set {jail} unbanip 198.51.100.2")
    assert public(f"{APP}/").stdout.strip() == "200"


def test_private_addresses_are_never_banned(run, host, public):
    """A load balancer would be among them, and with it everybody."""
    inside = host.run("hostname -I").stdout.split()[0]
    assert "401" in public("-u", "operator:guess", "https://app.bulwark.test:5555/[1-9]", to=inside).stdout
    assert public("-u", "operator:guess", "https://app.bulwark.test:5555/[1-5]").returncode == 0
    assert banned(run, "nginx-http-auth") == ["198.51.100.2"]


def test_users_are_not_readable_for_all(host):
    users = host.file("/etc/nginx/users/flower")
    assert (users.mode, users.group) == (0o640, "www-data")


def test_sandbox(exposure):
    assert exposure("nginx.service") <= 3.0


def test_renewal_by_the_packaged_service(run, serial):
    """The timer starts this very unit; only the age of the certificate is not waited for."""
    before, pid = serial(), run("systemctl show -p MainPID --value nginx")
    run("sed -i '1i renew_before_expiry = 36500 days' /etc/letsencrypt/renewal/app.conf")
    run("systemctl start certbot.service")
    run("sed -i '/renew_before_expiry = 36500/d' /etc/letsencrypt/renewal/app.conf")
    assert serial() != before
    assert run("systemctl show -p MainPID --value nginx") == pid


def test_it_comes_back_when_it_dies(run, status):
    run("systemctl kill -s KILL nginx")
    assert status(f"--retry 30 --retry-delay 1 --retry-connrefused {APP}/") == "200"


def site(**changes):
    return [
        {"name": "new", "domains": ["new.bulwark.test"], "locations": [{"path": "/", "proxy": "http://127.0.0.1:8000"}]}
        | changes
    ]


def test_domain_without_dns_changes_nothing(converge, run, status):
    before = run("md5sum /etc/nginx/nginx.conf")
    rc, out = converge(nginx_certbot_sites=site(domains=["nowhere.bulwark.test"]))
    assert rc != 0
    assert "nowhere.bulwark.test cannot be resolved on" in out
    assert "changed=0" in out
    assert run("md5sum /etc/nginx/nginx.conf") == before
    assert status(f"{APP}/") == "200"


def test_acme_server_out_of_reach_leaves_the_old_certificate(converge, serial):
    before = serial()
    rc, out = converge(nginx_certbot_acme_directory_url="https://localhost:14999/dir")
    assert rc != 0
    assert "certbot got no certificate for app.bulwark.test, www.bulwark.test; its sites keep the old one" in out
    assert serial() == before


def test_configuration_that_nginx_refuses_leaves_the_old_one(converge, run, status):
    before = run("md5sum /etc/nginx/nginx.conf")
    rc, out = converge(nginx_certbot_sites=site(headers={"X-Broken": "$no_such_variable"}))
    assert rc != 0
    assert 'unknown \\"no_such_variable\\" variable' in out or 'unknown "no_such_variable" variable' in out
    assert run("md5sum /etc/nginx/nginx.conf") == before
    run("nginx -t -q; systemctl restart nginx")
    assert status(f"{APP}/") == "200"


def test_site_comes_and_goes_and_changes_its_domains(converge, host, run, serial):
    """Without a stop of nginx: one certificate is replaced because its domains change, one is new."""
    pid, before = run("systemctl show -p MainPID --value nginx"), serial("old.bulwark.test")
    old = {"name": "old", "domains": ["old.bulwark.test", "new.bulwark.test"], "redirect": APP}
    rc, out = converge(nginx_certbot_sites=[old, *site(name="extra", domains=["extra.bulwark.test"])])
    assert rc == 0, out
    assert serial("old.bulwark.test") != before
    assert run(f"{CURL} -o /dev/null -w '%{{redirect_url}}' https://new.bulwark.test/x") == f"{APP}/x"
    assert "X-Frame-Options: SAMEORIGIN" in run(f"{CURL} --http1.1 -D- -o /dev/null {APP}/")
    assert json.loads(run(f"{CURL} https://extra.bulwark.test/y"))["path"] == "/y"
    # The second run brings back what the tests began with.
    rc, out = converge()
    assert rc == 0, out
    assert "unrecognized name" in run(f"{CURL} https://new.bulwark.test/", ok=False)
    assert "extra" not in run("certbot certificates 2>/dev/null; ls /etc/nginx/certificates")
    assert run("systemctl show -p MainPID --value nginx") == pid
