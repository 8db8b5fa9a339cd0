"""Which certificates are missing, read from files as certbot writes them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from plugins.modules import certbot_info

SERVER = "https://acme.example/dir"


@pytest.fixture
def letsencrypt(tmp_path, monkeypatch):
    monkeypatch.setattr(certbot_info, "ROOT", str(tmp_path))
    monkeypatch.setattr(certbot_info, "LINKS", str(tmp_path / "links"))
    monkeypatch.setattr(certbot_info, "VENV", str(tmp_path / "venv"))
    monkeypatch.setattr(certbot_info, "resolves", lambda domain: not domain.startswith("nowhere"))

    def _issue(name, *domains, server=SERVER):
        (tmp_path / "live" / name).mkdir(parents=True)
        (tmp_path / "renewal").mkdir(exist_ok=True)
        (tmp_path / "renewal" / f"{name}.conf").write_text(
            f"[renewalparams]\nserver = {server}\nauthenticator = webroot\n"
        )
        names = ",".join(f"DNS:{domain}" for domain in domains)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-subj", "/CN=x", "-addext", f"subjectAltName={names}"]
            + ["-keyout", "/dev/null", "-out", str(tmp_path / "live" / name / "fullchain.pem")],
            check=True,
            capture_output=True,
        )

    return _issue


pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")


def ask(run_module, *certificates, **options):
    wanted = [{"name": name, "domains": list(domains)} for name, *domains in certificates]
    return run_module(certbot_info, certificates=wanted, server=SERVER, **options)


def test_as_wanted(run_module, letsencrypt):
    letsencrypt("app", "b.example.org", "a.example.org")
    result = ask(run_module, ("app", "a.example.org", "b.example.org"))
    assert (result["issued"], result["wanting"], result["changed"]) == (["app"], [], False)


def test_none_yet(run_module, letsencrypt):
    result = ask(run_module, ("app", "a.example.org", "nowhere.example.org"))
    assert result["wanting"][0]["reason"] == "there is none yet"
    assert not result["wanting"][0]["exists"]
    assert result["present"] == []
    assert result["unresolved"] == ["nowhere.example.org"]
    assert (result["placeholder"], result["venv"]) == (False, [])


def test_other_domains(run_module, letsencrypt):
    letsencrypt("app", "a.example.org")
    result = ask(run_module, ("app", "a.example.org", "b.example.org"))
    assert result["wanting"][0]["reason"] == "it covers a.example.org"
    assert (result["issued"], result["present"]) == ([], ["app"])
    assert result["wanting"][0]["exists"]


def test_other_server_and_challenge(run_module, letsencrypt):
    letsencrypt("app", "a.example.org", server="https://staging.example/dir")
    result = ask(run_module, ("app", "a.example.org"))
    assert result["wanting"][0]["reason"] == "its server is https://staging.example/dir"


def test_dns_challenge_needs_no_address(run_module, letsencrypt):
    letsencrypt("app", "nowhere.example.org")
    result = ask(run_module, ("app", "nowhere.example.org"), authenticator="dns-cloudflare")
    assert result["wanting"][0]["reason"] == "its authenticator is webroot"
    assert result["unresolved"] == []


def test_expired():
    wanted = {"name": "app", "domains": ["a.example.org"], "server": SERVER, "authenticator": "webroot"}
    renewal = f"server = {SERVER}\nauthenticator = webroot\n"
    assert certbot_info.reason(wanted, renewal, {"a.example.org"}, alive=True) == ""
    assert certbot_info.reason(wanted, renewal, {"a.example.org"}, alive=False) == "it has expired"


def test_stale(run_module, letsencrypt, tmp_path):
    letsencrypt("gone", "gone.example.org")
    (tmp_path / "links" / "placeholder").mkdir(parents=True)
    (tmp_path / "links" / "placeholder" / "fullchain.pem").touch()
    for name in ("app", "gone", "never"):
        (tmp_path / "links" / name).symlink_to("placeholder")
    result = ask(run_module, ("app", "a.example.org"))
    assert result["stale"] == [{"name": "gone", "lineage": True}, {"name": "never", "lineage": False}]
    assert result["placeholder"]


def test_resolves_never_raises():
    assert certbot_info.resolves("localhost")
    assert not certbot_info.resolves("a" * 70 + ".invalid")
