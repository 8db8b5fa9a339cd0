"""Sites from data: merging, certificates, ports, versions of nginx, and one sentence for each mistake."""

from __future__ import annotations

import configparser

import pytest

from plugins.plugin_utils.nginx import (
    acme_problems,
    certbot_command,
    nginx_certificates,
    nginx_duplicates,
    nginx_files,
    nginx_firewall_rules,
    nginx_jail_files,
    nginx_plan,
    nginx_problems,
    nginx_sites,
    nginx_units,
    version_of,
)

SETTINGS = {
    "version": "1.26.3-3+deb13u1",
    "ipv6": True,
    "proxy_protocol": False,
    "hsts": "max-age=1",
    "headers": {"X-Frame-Options": "DENY"},
    "rate_per_second": 10,
    "rate_burst": 20,
}
ACME = {
    "url": "https://acme.example/dir",
    "ca_bundle": "",
    "email": "ops@example.org",
    "terms": True,
    "challenge": "webroot",
    "credentials": {},
    "propagation_seconds": 30,
    "plugins": {"cloudflare": {"credential": "dns_cloudflare_api_token"}},
    "program": "certbot",
}


def site(name="app", **changes):
    location = {"path": "/", "proxy": "http://unix:/run/app/web.sock"}
    return {"name": name, "domains": ["app.example.org"], "locations": [location], **changes}


def plan(*sites, **settings):
    return nginx_plan(nginx_sites(list(sites), []), {**SETTINGS, **settings})


def problems(*sites, challenge="webroot"):
    return nginx_problems(nginx_sites(list(sites), []), challenge)


def test_own_site_changes_the_published_one():
    done = nginx_sites([{"name": "app", "body_size_mb": 5}], [site(body_size_mb=2048), site("flower", port=5555)])
    assert [one["name"] for one in done] == ["app", "flower"]
    assert done[0]["body_size_mb"] == 5
    assert done[0]["domains"] == ["app.example.org"]


def test_defaults_of_a_site_and_a_location():
    done = nginx_sites([site(domains=["App.Example.org"])], [])[0]
    assert (done["port"], done["tls"], done["hsts"], done["body_size_mb"]) == (443, True, True, 20)
    assert done["domains"] == ["app.example.org"]
    location = done["locations"][0]
    assert (location["timeout_seconds"], location["buffering"], location["websocket"]) == (60, True, False)


def test_stream_is_not_buffered_and_may_be_silent():
    location = nginx_sites([site(locations=[{"path": "/", "proxy": "http://x", "sse": True}])], [])[0]["locations"][0]
    assert (location["timeout_seconds"], location["buffering"]) == (3600, False)


def test_plain_site():
    done = nginx_sites([site(certificate=False)], [])[0]
    assert (done["port"], done["hsts"]) == (80, False)
    assert nginx_certificates([done]) == []
    assert plan(site(certificate=False))["redirects"] == []


def test_sites_share_a_certificate():
    wide = site(domains=["app.example.org", "www.example.org"])
    done = plan(site("flower", port=5555), wide, site("other", domains=["other.example.org"]))
    assert [one["name"] for one in done["certificates"]] == ["app", "other"]
    assert [one["certificate"] for one in done["sites"]] == ["app", "app", "other"]


def test_port_80_sends_to_443_before_other_ports():
    done = plan(site("flower", port=5555), site(), site("alone", port=8443, domains=["alone.example.org"]))
    assert [(one["port"], one["domains"]) for one in done["redirects"]] == [
        (443, ["app.example.org"]),
        (8443, ["alone.example.org"]),
    ]


@pytest.mark.parametrize(
    ("version", "words", "directive", "rejects"),
    [
        ("1.18.0-6ubuntu14", "443 ssl http2", False, False),
        ("1.22.1-9+deb12u2", "443 ssl http2", False, True),
        ("1.25.1", "443 ssl", True, True),
        ("2:1.26.3-3", "443 ssl", True, True),
        ("", "443 ssl http2", False, False),
    ],
)
def test_versions_of_nginx(version, words, directive, rejects):
    done = plan(site(), version=version)
    assert done["sites"][0]["listen"][0] == words
    assert (done["http2_directive"], done["rejects_handshake"]) == (directive, rejects)


def test_version_of():
    assert version_of("1.22.1-9+deb12u2") == (1, 22, 1)
    assert version_of("unknown") == ()


def test_listen():
    done = plan(site(port=8443), ipv6=False, proxy_protocol=True)
    assert done["sites"][0]["listen"] == ["8443 ssl proxy_protocol"]
    assert [one["listen"] for one in done["ports"]] == [
        ["80 proxy_protocol default_server"],
        ["443 ssl proxy_protocol default_server"],
        ["8443 ssl proxy_protocol default_server"],
    ]
    assert done["sites"][0]["host"] == "$host:8443"


def test_upstreams():
    locations = [
        {"path": "/", "proxy": "http://unix:/run/app/web.sock"},
        {"path": "/a", "proxy": ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]},
        {"path": "/b", "proxy": "http://unix:/run/app/web.sock:/base/"},
        {"path": "/c", "proxy": "https://10.0.0.3/base"},
    ]
    done = plan(site(locations=locations))
    assert [one["servers"] for one in done["upstreams"]] == [
        ["unix:/run/app/web.sock"],
        ["10.0.0.1:8000", "10.0.0.2:8000"],
        ["10.0.0.3"],
    ]
    assert [one["keepalive"] for one in done["upstreams"]] == [False, True, True]
    passes = [one["pass"] for one in done["sites"][0]["locations"]]
    assert passes == ["http://app_0", "http://app_1", "http://app_0/base/", "https://app_2/base"]


def test_rates():
    locations = [
        {"path": "/", "proxy": "http://x", "rate_limit": True},
        {"path": "/login", "proxy": "http://x", "rate_limit": True, "rate_per_second": 1, "rate_burst": 5},
        {"path": "/free", "proxy": "http://x"},
    ]
    done = plan(site(locations=locations))
    assert done["rates"] == [1, 10]
    limited = [(one["rate_per_second"], one["rate_burst"]) for one in done["sites"][0]["locations"]]
    assert limited == [(10, 20), (1, 5), (None, None)]


def test_headers():
    headers = plan(site(headers={"X-Frame-Options": None, "X-Say": 'a "b" \\'}))["sites"][0]["headers"]
    assert headers == {"Strict-Transport-Security": '"max-age=1"', "X-Say": '"a \\"b\\" \\\\"'}
    assert "Strict-Transport-Security" not in plan(site(hsts=False))["sites"][0]["headers"]


def test_firewall_rules():
    own = [site(), site("a", port=5555, allow_from=["10.0.0.0/8"]), site("b", port=8443)]
    assert [(rule["port"], rule["from"]) for rule in nginx_firewall_rules(own)] == [
        (80, ["any"]),
        (443, ["any"]),
        (5555, ["10.0.0.0/8"]),
        (8443, ["any"]),
    ]


def test_good_sites():
    assert problems(site(), site("flower", port=5555, users=[{"name": "op", "password": "correct-horse"}])) == []
    assert problems(site(domains=["*.example.org"]), challenge="dns-cloudflare") == []
    assert problems(site(locations=[{"path": "= /robots.txt", "static": "/srv/robots.txt"}])) == []
    assert problems(site(allow_from=["any"])) == []
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"domains": []}, "has no domains"),
        ({"domains": [""]}, "is no domain name"),
        ({"domains": ["a b; c"]}, "is no domain name"),
        ({"domains": ["*.example.org"]}, "needs the DNS challenge"),
        ({"name": "My App"}, "the name becomes part of file names"),
        ({"name": "placeholder"}, "this name is taken"),
        ({"locations": []}, "would serve nothing"),
        ({"redirect": "https://example.org"}, "leaves no room for locations"),
        ({"redirect": "example.org", "locations": []}, "redirect is an address"),
        ({"port": 80}, "speaks plain HTTP"),
        ({"certificate": False, "port": 443}, "serves either TLS or plain HTTP"),
        ({"allow_from": ["office"]}, "'office' is no network"),
        ({"users": [{"name": "op", "password": "short"}]}, "openssl rand"),
        ({"users": [{"name": "op", "password": None}]}, "openssl rand"),
        ({"users": [{"name": "o:p", "password": "correct-horse"}]}, "no colon"),
        ({"locations": [{"path": "/"}]}, "needs either proxy or static"),
        ({"locations": [{"path": "/", "proxy": "http://x", "static": "/srv/"}]}, "and not both"),
        ({"locations": [{"path": "api", "proxy": "http://x"}]}, "must start with /"),
        ({"locations": [{"path": "/ { }", "proxy": "http://x"}]}, "must start with /"),
        ({"locations": [{"path": "/", "proxy": "127.0.0.1:8000"}]}, "is not like http://127.0.0.1:8000"),
        ({"locations": [{"path": "/media", "static": "/srv/media/"}]}, "must both end with /"),
        ({"locations": [{"path": "/m/", "static": "media/"}]}, "must be an absolute path"),
        ({"locations": [{"path": "/", "proxy": "http://x"}] * 2}, "the path / is there twice"),
        ({"locations": [{"path": "/", "proxy": "http://x", "allow_from": ["x"]}]}, "'x' is no network"),
    ],
)
def test_one_sentence_for_each_mistake(changes, words):
    found = problems(site(**changes))
    assert len(found) == 1, found
    assert words in found[0]


def test_sites_in_each_others_way():
    assert problems(site(), site("copy")) == ["nginx sites 'app' and 'copy' both want app.example.org:443."]
    assert nginx_duplicates([site(), site()], "nginx_certbot_sites") == [
        "nginx_certbot_sites: the site 'app' is there twice."
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"terms": False}, "nginx_certbot_terms_agreed is false"),
        ({"url": "http://acme.example/dir"}, "must start with https://"),
        ({"challenge": "dns-route66"}, "known are webroot and dns-cloudflare"),
        ({"challenge": "dns-cloudflare"}, "nginx_certbot_dns_credentials is empty"),
    ],
)
def test_acme_problems(changes, words):
    certificates = [{"name": "app", "domains": ["app.example.org"]}]
    assert acme_problems(certificates, ACME) == []
    assert acme_problems([], {**ACME, **changes}) == []
    found = acme_problems(certificates, {**ACME, **changes})
    assert len(found) == 1
    assert words in found[0]


def test_files():
    done = plan(site(), site("b", domains=["b.example.org"], users=[{"name": "op", "password": "correct-horse"}]))
    files = {entry["path"]: entry for entry in nginx_files(done, ["app"], ACME)}
    assert files["/etc/nginx/certificates/app"]["target"] == "/etc/letsencrypt/live/app"
    assert files["/etc/nginx/certificates/b"]["target"] == "placeholder"
    assert files["/etc/nginx/users/b"]["secret"]
    assert list(files)[-1] == "/etc/nginx/nginx.conf"


def test_credentials_are_a_secret():
    acme = {**ACME, "challenge": "dns-cloudflare", "credentials": {"dns_cloudflare_api_token": "t0ken"}}
    files = {entry["path"]: entry for entry in nginx_files(plan(site()), [], acme)}
    entry = files["/etc/letsencrypt/dns-cloudflare.ini"]
    assert (entry["content"], entry["secret"], entry["mode"]) == ("dns_cloudflare_api_token = t0ken\n", True, "0600")


def test_units():
    units = {unit["name"]: unit for unit in nginx_units(plan(site()), ACME)}
    assert "/etc/nginx/certificates/app" in units["nginx.service"]["reload_on"]
    assert units["certbot.service"]["state"] == "absent"
    private = {**ACME, "ca_bundle": "/etc/ca.pem", "program": "/opt/x/bin/python /usr/bin/certbot"}
    service = nginx_units(plan(site()), private)[1]["sections"]["Service"]
    assert service["Environment"] == "REQUESTS_CA_BUNDLE=/etc/ca.pem"
    assert service["ExecStart"] == ["", "/opt/x/bin/python /usr/bin/certbot -q renew"]


def test_certbot_command():
    certificate = {"name": "app", "domains": ["app.example.org", "www.example.org"]}
    command = certbot_command(certificate, ACME)
    assert command[:2] == ["certbot", "certonly"]
    assert "--webroot" in command
    assert "--force-renewal" not in command
    assert command[-4:] == ["--domain", "app.example.org", "--domain", "www.example.org"]
    again = certbot_command(
        {**certificate, "exists": True},
        {**ACME, "challenge": "dns-cloudflare", "email": "", "program": "/opt/x/bin/python /usr/bin/certbot"},
    )
    assert again[:3] == ["/opt/x/bin/python", "/usr/bin/certbot", "certonly"]
    assert "--register-unsafely-without-email" in again
    assert "--force-renewal" in again
    assert again[again.index("--dns-cloudflare-propagation-seconds") + 1] == "30"


def test_jails():
    entry = nginx_jail_files(plan(site(port=8443)), True, ["203.0.113.0/24"])[-1]
    jails = configparser.ConfigParser(interpolation=None)
    jails.read_string(entry["content"])
    assert jails.sections() == ["nginx-http-auth", "nginx-limit-req"]
    for name in jails.sections():
        assert jails[name]["port"] == "80,443,8443"
        assert {"::1", "10.0.0.0/8", "203.0.113.0/24"} <= set(jails[name]["ignoreip"].split())
    assert nginx_jail_files(plan(site()), False, []) == [{"path": entry["path"], "state": "absent"}]
    restarted = {unit["name"]: unit for unit in nginx_units(plan(site()), ACME, True)}["fail2ban.service"]
    assert restarted == {"name": "fail2ban.service", "restart_on": [entry["path"]]}
