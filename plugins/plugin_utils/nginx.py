# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""nginx sites from data: merged, completed, checked, and sorted into what the configuration prints."""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
JAIL = "/etc/fail2ban/jail.d/bulwark-nginx.local"
LOOPBACK = ("127.0.0.0/8", "::1")
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
DOMAIN = re.compile(rf"(\*\.)?({LABEL}\.)*{LABEL}")
# A long wait between two parts of an answer is normal for a stream and a fault everywhere else.
TIMEOUT_SECONDS, STREAM_TIMEOUT_SECONDS = 60, 3600
# In the order in which they came; an unknown version counts as the oldest that we meet.
REJECTS_HANDSHAKE, HTTP2_DIRECTIVE = (1, 19, 4), (1, 25, 1)


def as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def nginx_sites(own: list[dict[str, Any]], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All sites with all their values. An own site changes the published one of the same name key by key."""
    merged: dict[str, dict[str, Any]] = {}
    for site in [*published, *own]:
        merged[site["name"]] = {**merged.get(site["name"], {}), **site}
    return [complete(site) for site in merged.values()]


def complete(site: dict[str, Any]) -> dict[str, Any]:
    tls = site.get("certificate") is not False
    return {
        "name": site["name"],
        "domains": [domain.lower() for domain in site.get("domains") or []],
        "port": int(site.get("port") or (443 if tls else 80)),
        "tls": tls,
        "locations": [complete_location(location) for location in site.get("locations") or []],
        "redirect": site.get("redirect"),
        "allow_from": sources(site.get("allow_from")),
        "users": site.get("users") or [],
        "body_size_mb": int(site.get("body_size_mb") or 20),
        "hsts": tls and site.get("hsts") is not False,
        "headers": site.get("headers") or {},
    }


def complete_location(location: dict[str, Any]) -> dict[str, Any]:
    stream = bool(location.get("sse"))
    return {
        "path": location.get("path", "/"),
        "proxy": as_list(location.get("proxy")),
        "static": location.get("static"),
        "websocket": bool(location.get("websocket")),
        "sse": stream,
        "buffering": not stream and location.get("buffering") is not False,
        "rate_limit": bool(location.get("rate_limit")),
        "rate_per_second": location.get("rate_per_second"),
        "rate_burst": location.get("rate_burst"),
        "timeout_seconds": int(
            location.get("timeout_seconds") or (STREAM_TIMEOUT_SECONDS if stream else TIMEOUT_SECONDS)
        ),
        "allow_from": sources(location.get("allow_from")),
    }


def sources(networks: list[str] | None) -> list[str]:
    """The networks that are let in; none means everybody, as V(any) does."""
    return [] if not networks or "any" in networks else list(networks)


def version_of(package: str) -> tuple[int, ...]:
    """V(1.22.1-9+deb12u1) is (1, 22, 1)."""
    found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", package or "")
    return tuple(int(part) for part in found.group(1).split(".")) if found else ()


def nginx_certificates(sites: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The certificates that the sites need: name and domains. What another one covers needs none of its own."""
    chosen: list[dict[str, Any]] = []
    # sorted() keeps the order of equals, so the first site with the most domains gives the name.
    for site in sorted((s for s in sites if s["tls"]), key=lambda s: -len(s["domains"])):
        if certificate_of(site, chosen) is None:
            chosen.append({"name": site["name"], "domains": site["domains"]})
    return sorted(chosen, key=lambda one: str(one["name"]))


def certificate_of(site: dict[str, Any], certificates: list[dict[str, Any]]) -> str | None:
    for one in certificates:
        if set(site["domains"]) <= set(one["domains"]):
            return str(one["name"])
    return None


def upstream(servers: list[str]) -> dict[str, Any]:
    """Where to pass requests: C(http://unix:/run/x.sock), C(http://host:port) or either with a path."""
    scheme = servers[0].partition("://")[0]
    targets, path = [], ""
    for server in servers:
        target = server.partition("://")[2]
        if target.startswith("unix:"):
            socket, _sep, path = target[len("unix:") :].partition(":")
            targets.append(f"unix:{socket}")
        else:
            host, slash, path = target.partition("/")
            path = slash + path
            targets.append(host)
    return {"scheme": scheme, "servers": targets, "path": path}


def listen(port: int, tls: bool, settings: dict[str, Any], default: bool = False) -> list[str]:
    """The values of C(listen), for IPv4 and IPv6."""
    words = ["ssl"] if tls else []
    words += ["http2"] if tls and version_of(settings["version"]) < HTTP2_DIRECTIVE else []
    words += ["proxy_protocol"] if settings["proxy_protocol"] else []
    words += ["default_server"] if default else []
    addresses = ["", "[::]:"] if settings["ipv6"] else [""]
    return [" ".join([f"{address}{port}", *words]) for address in addresses]


def header_lines(site: dict[str, Any], settings: dict[str, Any]) -> dict[str, str]:
    """Name to quoted value; null in a site leaves a header out."""
    hsts = {"Strict-Transport-Security": settings["hsts"]} if site["hsts"] and settings["hsts"] else {}
    headers = {**hsts, **settings["headers"], **site["headers"]}
    return {
        name: '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
        for name, value in headers.items()
        if value is not None
    }


def nginx_plan(sites: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """What the configuration prints, from completed sites.

    C(settings): the C(version) of the package, C(ipv6), C(proxy_protocol), C(hsts), C(headers), C(rate_per_second)
    and C(rate_burst).
    """
    certificates = nginx_certificates(sites)
    upstreams: list[dict[str, Any]] = []
    servers = []
    for site in sites:
        locations = [plan_location(site["name"], location, upstreams, settings) for location in site["locations"]]
        servers.append(
            {
                **site,
                "locations": locations,
                "listen": listen(site["port"], site["tls"], settings),
                "host": "$host" if site["port"] in (80, 443) else f"$host:{site['port']}",
                "certificate": certificate_of(site, certificates) if site["tls"] else None,
                "headers": header_lines(site, settings),
            }
        )
    ports = {80: False, 443: True, **{site["port"]: site["tls"] for site in sites}}
    version = version_of(settings["version"])
    return {
        "sites": servers,
        "upstreams": upstreams,
        "rates": sorted({one["rate_per_second"] for site in servers for one in site["locations"] if one["rate_limit"]}),
        "ports": [{"listen": listen(port, tls, settings, True), "tls": tls} for port, tls in sorted(ports.items())],
        "redirects": [{**one, "listen": listen(80, False, settings)} for one in redirects(sites)],
        "certificates": certificates,
        "http2_directive": version >= HTTP2_DIRECTIVE,
        "rejects_handshake": version >= REJECTS_HANDSHAKE,
    }


def plan_location(
    site: str, location: dict[str, Any], upstreams: list[dict[str, Any]], settings: dict[str, Any]
) -> dict[str, Any]:
    """A location with its rate and where it passes requests to; adds to C(upstreams) what is not in it yet."""
    done = dict(location)
    if location["rate_limit"]:
        done["rate_per_second"] = int(location["rate_per_second"] or settings["rate_per_second"])
        done["rate_burst"] = int(location["rate_burst"] or settings["rate_burst"])
    if location["proxy"]:
        one = upstream(location["proxy"])
        known = next((other for other in upstreams if other["servers"] == one["servers"]), None)
        if known is None:
            # A connection to a socket costs nothing, and a service that restarts never drops an idle one.
            keep = not any(server.startswith("unix:") for server in one["servers"])
            known = {"name": f"{site}_{len(upstreams)}", "servers": one["servers"], "keepalive": keep}
            upstreams.append(known)
        done["pass"] = f"{one['scheme']}://{known['name']}{one['path']}"
    return done


def redirects(sites: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which domains port 80 sends to which TLS port; 443 wins where a domain has several."""
    target: dict[str, int] = {}
    for site in sorted((s for s in sites if s["tls"]), key=lambda s: s["port"] != 443):
        for domain in site["domains"]:
            target.setdefault(domain, site["port"])
    plain = {domain for site in sites if site["port"] == 80 for domain in site["domains"]}
    return [
        {"port": port, "domains": [domain for domain, to in target.items() if to == port and domain not in plain]}
        for port in sorted(set(target.values()))
        if any(to == port and domain not in plain for domain, to in target.items())
    ]


def nginx_firewall_rules(own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """80 and 443 for everybody; another port for whom its site allows. Publishers publish the ports of their sites."""
    rules = [{"port": port, "from": ["any"], "name": f"nginx {name}"} for port, name in ((80, "http"), (443, "https"))]
    ports: dict[int, list[str]] = {}
    for site in (complete(one) for one in own if one.get("port")):
        if site["port"] not in (80, 443):
            ports.setdefault(site["port"], []).extend(site["allow_from"] or ["any"])
    for port, networks in sorted(ports.items()):
        allowed = ["any"] if "any" in networks else sorted(set(networks))
        rules.append({"port": port, "from": allowed, "name": f"nginx {port}"})
    return rules


def network_problems(where: str, networks: list[str]) -> list[str]:
    problems = []
    for network in networks:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            problems.append(f"{where}: '{network}' is no network; write it like 203.0.113.7 or 10.0.0.0/8.")
    return problems


def location_problems(where: str, location: dict[str, Any]) -> list[str]:
    path, static = location["path"], location["static"]
    problems = network_problems(f"{where}, {path}", location["allow_from"])
    if not re.fullmatch(r"((=|\^~) )?/[^\s;{}\"'\\]*", path):
        problems.append(f"{where}: the path '{path}' must start with / or '= /' and hold no spaces or quotes.")
    if bool(location["proxy"]) == bool(static):
        problems.append(f"{where}: {path} needs either proxy or static, and not both.")
    for server in location["proxy"]:
        if not re.fullmatch(r"https?://(unix:/[^\s;{}:]+(:/[^\s;{}]*)?|[^\s;{}/]+(/[^\s;{}]*)?)", server):
            problems.append(f"{where}: proxy '{server}' is not like http://127.0.0.1:8000 or http://unix:/run/x.sock.")
    if static and not re.fullmatch(r"/[^\s;{}\"'\\$]*", static):
        problems.append(f"{where}: static '{static}' must be an absolute path without spaces or quotes.")
    # Without the slash /media../ would reach the directory above.
    if static and not path.startswith("= ") and path.endswith("/") != static.endswith("/"):
        problems.append(
            f"{where}: path {path} and static {static} must both end with / (a directory) or neither (a file)."
        )
    return problems


def site_problems(site: dict[str, Any], challenge: str) -> list[str]:
    where = f"nginx site '{site['name']}'"
    problems = network_problems(where, site["allow_from"])
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", site["name"]):
        problems.append(f"{where}: the name becomes part of file names; use a-z, 0-9, _ and -.")
    if site["name"] == "placeholder":
        problems.append(f"{where}: this name is taken by the certificate that new sites start with.")
    if not site["domains"]:
        problems.append(f"{where} has no domains; give it at least one, or set bulwark_domain.")
    for domain in site["domains"]:
        if not DOMAIN.fullmatch(domain):
            problems.append(
                f"{where}: '{domain}' is no domain name; write it like app.example.org (see bulwark_domain)."
            )
        elif site["tls"] and domain.startswith("*.") and challenge == "webroot":
            problems.append(
                f"{where}: a certificate for '{domain}' needs the DNS challenge; "
                "set nginx_certbot_challenge to dns-<plugin>."
            )
    if not site["locations"] and not site["redirect"]:
        problems.append(f"{where} has neither locations nor a redirect, so it would serve nothing.")
    if site["redirect"] and (site["locations"] or not urlsplit(site["redirect"]).scheme.startswith("http")):
        problems.append(f"{where}: redirect is an address like https://example.org and leaves no room for locations.")
    if site["tls"] and site["port"] == 80:
        problems.append(f"{where}: port 80 speaks plain HTTP; choose another port or set certificate: false.")
    paths = [location["path"] for location in site["locations"]]
    problems += [f"{where}: the path {path} is there twice." for path in sorted(set(paths)) if paths.count(path) > 1]
    for location in site["locations"]:
        problems += location_problems(where, location)
    for user in site["users"]:
        if not re.fullmatch(r"[^\s:]+", user["name"]):
            problems.append(f"{where}: the user name '{user['name']}' may hold no spaces and no colon.")
        if len(user.get("password") or "") < 12:
            problems.append(
                f"{where}: user '{user['name']}' needs a password of 12 characters or more, because everybody may try "
                "to log in (openssl rand -hex 16 makes one)."
            )
    return problems


def nginx_problems(
    sites: list[dict[str, Any]], challenge: str = "webroot", real_ip_from: list[str] | None = None
) -> list[str]:
    """One sentence for everything in completed sites that nginx or the ACME server would refuse."""
    problems = network_problems("nginx_certbot_real_ip_from", real_ip_from or [])
    listeners: dict[tuple[int, str], str] = {}
    speaks: dict[int, bool] = {443: True}
    for site in sites:
        problems += site_problems(site, challenge)
        if speaks.setdefault(site["port"], site["tls"]) != site["tls"]:
            problems.append(
                f"nginx site '{site['name']}': port {site['port']} serves either TLS or plain HTTP, not both."
            )
        for domain in site["domains"]:
            other = listeners.setdefault((site["port"], domain), site["name"])
            if other != site["name"]:
                problems.append(f"nginx sites '{other}' and '{site['name']}' both want {domain}:{site['port']}.")
    return problems


def nginx_duplicates(sites: list[dict[str, Any]], variable: str) -> list[str]:
    names = [site["name"] for site in sites]
    return [f"{variable}: the site '{name}' is there twice." for name in sorted(set(names)) if names.count(name) > 1]


def acme_problems(certificates: list[dict[str, Any]], acme: dict[str, Any]) -> list[str]:
    """What keeps certbot from asking for the certificates."""
    if not certificates:
        return []
    problems = []
    plugin = acme["challenge"].removeprefix("dns-")
    if not acme["terms"]:
        problems.append(
            "nginx_certbot_terms_agreed is false, and no ACME server gives a certificate to who does not agree to its "
            "terms; read them and set it to true, or set certificate: false on every site."
        )
    if not acme["url"].startswith("https://"):
        problems.append(f"nginx_certbot_acme_directory_url '{acme['url']}' must start with https://.")
    if acme["challenge"] != "webroot":
        if plugin not in acme["plugins"]:
            problems.append(
                f"nginx_certbot_challenge '{acme['challenge']}' is unknown; known are webroot and "
                f"{', '.join('dns-' + name for name in sorted(acme['plugins']))}."
            )
        elif not acme["credentials"]:
            problems.append(
                f"nginx_certbot_dns_credentials is empty, and dns-{plugin} proves the domains through your provider's "
                f"API; give it the lines of the plugin's credentials file, such as "
                f"{acme['plugins'][plugin]['credential']}, with an API token that may edit this zone only."
            )
    return problems


def nginx_files(plan: dict[str, Any], present: list[str], acme: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries for the module C(files). The configuration is the last one: what it names is there when it is checked."""
    files: list[dict[str, Any]] = [
        {"path": "/etc/nginx/certificates", "state": "directory", "mode": "0700"},
        {"path": "/etc/nginx/users", "state": "directory", "group": "www-data", "mode": "0750"},
        {"path": "/var/lib/letsencrypt/webroot", "state": "directory"},
        {"path": "/etc/letsencrypt/renewal-hooks/deploy", "state": "directory"},
        {"path": "/etc/letsencrypt/renewal-hooks/deploy/nginx", "src": "deploy-hook.sh", "mode": "0755"},
    ]
    if acme["challenge"] != "webroot":
        lines = [f"{key} = {value}" for key, value in acme["credentials"].items()]
        files.append(
            {
                "path": f"/etc/letsencrypt/{acme['challenge']}.ini",
                "content": "\n".join(lines) + "\n",
                "secret": True,
                "mode": "0600",
            }
        )
    for one in plan["certificates"]:
        target = f"/etc/letsencrypt/live/{one['name']}" if one["name"] in present else "placeholder"
        files.append({"path": f"/etc/nginx/certificates/{one['name']}", "state": "link", "target": target})
    for site in plan["sites"]:
        if site["users"]:
            files.append(
                {
                    "path": f"/etc/nginx/users/{site['name']}",
                    "template": "htpasswd.j2",
                    "vars": {"site": site},
                    "group": "www-data",
                    "mode": "0640",
                    "secret": True,
                }
            )
    # One file, checked before it replaces the old one: at no moment can nginx find half a configuration.
    files.append({"path": "/etc/nginx/nginx.conf", "template": "nginx.conf.j2", "validate": "nginx -t -q -c %s"})
    return files


def nginx_jail_files(plan: dict[str, Any], enabled: bool, spared: list[str]) -> list[dict[str, Any]]:
    """Entries for the module C(files): who guesses passwords or asks too often is banned from the ports of the sites.

    A ban of a load balancer would be one of everybody; those that nobody declared have private addresses.
    """
    if not enabled:
        return [{"path": JAIL, "state": "absent"}]
    ports = ",".join(str(port) for port in sorted({80, 443, *(site["port"] for site in plan["sites"])}))
    common = [
        "enabled = true",
        # nginx writes no journal, whatever the other jails read.
        "backend = auto",
        "logpath = /var/log/nginx/error.log",
        f"port = {ports}",
        f"ignoreip = {' '.join(dict.fromkeys([*LOOPBACK, *PRIVATE, *spared]))}",
    ]
    lines = ["# Managed by Ansible (bulwark.stack.nginx_certbot).", "[nginx-http-auth]", *common]
    # A page may well ask for more than it gets; who is refused this often does not read the answers.
    lines += ["[nginx-limit-req]", *common, "maxretry = 100"]
    return [
        {"path": "/etc/fail2ban/jail.d", "state": "directory"},
        {"path": JAIL, "content": "\n".join(lines) + "\n"},
    ]


def nginx_forget(stale: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries for the module C(files) that remove the links to certificates that are gone."""
    return [{"path": f"/etc/nginx/certificates/{one['name']}", "state": "absent"} for one in stale]


def nginx_units(plan: dict[str, Any], acme: dict[str, Any], jails: bool = False) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit): nginx, sandboxed by a drop-in, the packaged renewal timer, and fail2ban."""
    service = {
        "Restart": "on-failure",
        "RestartSec": 2,
        "LimitNOFILE": 65535,
        # The master opens ports and logs, and starts and stops workers that run as www-data.
        "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID CAP_CHOWN CAP_DAC_OVERRIDE CAP_KILL",
        "SystemCallFilter": "@system-service",
        "ReadWritePaths": "/run /var/lib/nginx /var/log/nginx",
    }
    certificates = [f"/etc/nginx/certificates/{one['name']}" for one in plan["certificates"]]
    units: list[dict[str, Any]] = [
        {
            "name": "nginx.service",
            "drop_in": "bulwark",
            "sandbox": True,
            "sections": {"Service": service},
            "enabled": True,
            "state": "started",
            "reload_on": ["/etc/nginx/nginx.conf", "/etc/nginx/conf.d", *certificates],
        }
    ]
    renewal: dict[str, Any] = {}
    if acme["ca_bundle"]:
        renewal["Environment"] = f"REQUESTS_CA_BUNDLE={acme['ca_bundle']}"
    if acme["program"] != "certbot":
        renewal["ExecStart"] = ["", f"{acme['program']} -q renew"]
    own = {"sections": {"Service": renewal}} if renewal else {"state": "absent"}
    units.append({"name": "certbot.service", "drop_in": "bulwark", **own})
    units.append({"name": "certbot.timer", "enabled": True, "state": "started"})
    if jails:
        units.append({"name": "fail2ban.service", "restart_on": [JAIL]})
    return units


def certbot_command(certificate: dict[str, Any], acme: dict[str, Any]) -> list[str]:
    """The command that gets one certificate, new or in place of the old one."""
    command = [*acme["program"].split(), "certonly", "--non-interactive", "--agree-tos", "--server", acme["url"]]
    command += ["--email", acme["email"]] if acme["email"] else ["--register-unsafely-without-email"]
    command += ["--key-type", "ecdsa", "--cert-name", certificate["name"]]
    if acme["challenge"] == "webroot":
        command += ["--webroot", "--webroot-path", "/var/lib/letsencrypt/webroot"]
    else:
        plugin = acme["challenge"]
        command += ["--authenticator", plugin, f"--{plugin}-credentials", f"/etc/letsencrypt/{plugin}.ini"]
        command += [f"--{plugin}-propagation-seconds", str(acme["propagation_seconds"])]
    # What is there was found wanting, so certbot must not keep it for not being due.
    command += ["--force-renewal"] if certificate.get("exists") else []
    for domain in certificate["domains"]:
        command += ["--domain", domain]
    return command
