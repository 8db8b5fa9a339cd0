# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The engine's configuration, packages and units from data, see https://docs.docker.com/reference/cli/dockerd/."""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from typing import Any

CONFIG = "/etc/docker/daemon.json"
# Its time stamp tells a change that only a restart brings into effect from one that a reload does.
RESTART_MARK = "/etc/docker/restart-when-changed.json"

# From "Configuration reload behavior". Left out is features: containerd-snapshotter there needs a restart.
RELOADABLE = {
    "allow-nondistributable-artifacts",
    "authorization-plugins",
    "debug",
    "default-runtime",
    "insecure-registries",
    "labels",
    "live-restore",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "registry-mirrors",
    "runtimes",
    "shutdown-timeout",
}

# Options younger than the oldest engine that we meet, with the version that brought them.
SINCE = {
    "allow-direct-routing": "28.2",
    "cdi-spec-dirs": "25.0",
    "default-network-opts": "24.0",
    "firewall-backend": "29.0",
    # An experiment before, which let packets through without asking the firewall.
    "ip6tables": "23.0",
    "http-proxy": "23.0",
    "https-proxy": "23.0",
    "ip-forward-no-drop": "28.0",
    "log-format": "25.0",
    "no-proxy": "23.0",
    "proxies": "23.0",
}
# From this version on the engine checks a configuration itself (dockerd --validate).
VALIDATES = "23.0"
# Older ones do not start with a name that they do not know; these are the names of 20.10.
OLD_NAMES = frozenset(
    """
    allow-nondistributable-artifacts api-cors-header authorization-plugins bip bridge builder cgroup-parent
    cluster-advertise cluster-store cluster-store-opts containerd containerd-namespace containerd-plugin-namespace
    cpu-rt-period cpu-rt-runtime data-root debug default-address-pools default-cgroupns-mode default-gateway
    default-gateway-v6 default-ipc-mode default-runtime default-shm-size default-ulimits deprecated-key-path dns
    dns-opts dns-search exec-opts exec-root experimental features fixed-cidr fixed-cidr-v6 group host-gateway-ip icc
    init init-path insecure-registries ip ip-forward ip-masq iptables ipv6 labels live-restore log-driver
    log-level log-opts max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr mtu
    network-control-plane-mtu no-new-privileges node-generic-resources oom-score-adjust pidfile raw-logs
    registry-mirrors rootless runtimes seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opts
    swarm-default-advertise-addr tls tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path
    userns-remap
    """.split()  # noqa: SIM905
)
KNOWN = OLD_NAMES | set(SINCE) | {"hosts"}

ENGINES = {"upstream": "docker-ce", "distro": "docker.io"}
PINNED = {"docker-ce", "docker-ce-cli", "docker.io", "docker-cli"}
HELD = PINNED | {"containerd.io"}


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def docker_engine_version(packages: dict[str, str]) -> str:
    """Version of the installed engine such as V(26.1.5), empty when there is none."""
    for name in ENGINES.values():
        found = re.match(r"(?:\d+:)?(\d+\.\d+(?:\.\d+)?)", packages.get(name, ""))
        if found:
            return found.group(1)
    return ""


def docker_settings(options: dict[str, Any]) -> dict[str, Any]:
    """What daemon.json is to say on an engine that knows every option; null in C(settings) drops a line."""
    address = options["bind_address"]
    settings: dict[str, Any] = {
        "default-address-pools": options["address_pools"],
        # ip is for the default bridge; the networks of Compose are others and take theirs from here.
        "default-network-opts": {"bridge": {"com.docker.network.bridge.host_binding_ipv4": address}},
        "ip": address,
        "live-restore": True,
        "log-driver": "local",
        "log-opts": {"max-file": str(options["log_files"]), "max-size": f"{options['log_max_size_mb']}m"},
        "no-new-privileges": True,
        "userland-proxy": False,
    }
    if options["metrics_address"]:
        settings["metrics-addr"] = options["metrics_address"]
    settings.update(options["settings"] or {})
    return {key: value for key, value in settings.items() if value is not None}


def lacks(name: str, engine: str) -> bool:
    """Whether an engine does not know an option; one without a version is the newest."""
    if not engine:
        return False
    if name in SINCE:
        return number(engine) < number(SINCE[name])
    return number(engine) < number(VALIDATES) and name not in OLD_NAMES


def docker_supported(settings: dict[str, Any], engine: str) -> dict[str, Any]:
    """The settings that an engine of this version knows."""
    return {name: value for name, value in settings.items() if not lacks(name, engine)}


def docker_left_out(settings: dict[str, Any], engine: str) -> list[str]:
    """One sentence for each setting that is left out because the engine does not know it."""
    sentences = []
    for name in sorted(settings):
        if not lacks(name, engine):
            continue
        since = f"it came with {SINCE[name]}" if name in SINCE else "nor do we"
        sentence = f"docker: this engine ({engine}) does not know '{name}' ({since}), so it is left out."
        if name == "default-network-opts":
            sentence += (
                " Ports published on networks of your own, as Compose makes them, are open on every address here:"
                " write 127.0.0.1:8080:80 there, or set docker_source: upstream for a newer engine."
            )
        sentences.append(sentence)
    return sentences


def pool_problem(pool: dict[str, Any]) -> str:
    try:
        network = ipaddress.ip_network(str(pool["base"]))
        if not network.prefixlen <= int(pool["size"]) <= network.max_prefixlen - 2:
            return f"size {pool['size']} does not fit into {network}"
    except (KeyError, ValueError):
        return f"{pool} needs a base such as 172.28.0.0/14 and a size such as 24"
    return ""


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def docker_problems(options: dict[str, Any], packages: dict[str, str]) -> list[str]:
    """One sentence for everything that would break the engine, or replace it under running containers."""
    problems = []
    other = next(name for source, name in ENGINES.items() if source != options["source"])
    if other in packages and ENGINES[options["source"]] not in packages:
        problems.append(
            f"docker_source: {options['source']} would replace the engine that is installed ({other}) and stop its "
            f"containers; set docker_source: {'distro' if options['source'] == 'upstream' else 'upstream'}, or remove "
            f"{other} yourself first."
        )
    if options["version"] and not re.fullmatch(r"\d+\.\d+\.\d+", options["version"]):
        problems.append(f"docker_version: '{options['version']}' is not a full version; write it like 28.5.1.")
    if not is_address(options["bind_address"]):
        problems.append(f"docker_bind_address: '{options['bind_address']}' is not an IP address.")
    if options["metrics_address"]:
        host, _sep, port = options["metrics_address"].rpartition(":")
        if not is_address(host.strip("[]")) or not port.isdigit():
            problems.append(
                f"docker_metrics_address: '{options['metrics_address']}' is not an address with a port; "
                "write it like 127.0.0.1:9323."
            )
    problems += [f"docker_address_pools: {said}." for said in map(pool_problem, options["address_pools"]) if said]
    for name in options["settings"] or {}:
        near = difflib.get_close_matches(name, KNOWN - {name}, n=1, cutoff=0.8)
        if name not in KNOWN and near:
            problems.append(f"docker_settings: '{name}' is not an option of the engine. Did you mean '{near[0]}'?")
    if "hosts" in (options["settings"] or {}):
        problems.append(
            "docker_settings: 'hosts' is on the engine's command line already, and twice is an error; "
            "reach the engine over SSH (docker -H ssh://…) instead of a port."
        )
    return problems


def docker_firewall_rules(metrics_address: str) -> list[dict[str, Any]]:
    """The engine's own port; those of containers are another matter."""
    port = str(metrics_address).rpartition(":")[2]
    return [{"port": int(port), "from": [], "name": "docker metrics"}] if port.isdigit() else []


def docker_packages(names: list[str], options: dict[str, Any], packages: dict[str, str]) -> list[str]:
    """Names for the module C(packages); a pinned one that is not at its version carries a pattern for it."""
    version = options["version"]
    done = []
    for name in names:
        at_version = re.match(rf"(\d+:)?{re.escape(version)}(?![\d.])", packages.get(name, ""))
        if version and name in PINNED and not at_version:
            # Upstream's versions carry an epoch and always this form; see apt-cache madison docker-ce.
            done.append(f"{name}=5:{version}-*" if options["source"] == "upstream" else f"{name}={version}*")
        else:
            done.append(name)
    return done


def docker_selections(packages: list[str], hold: bool, held: list[str]) -> list[dict[str, str]]:
    """Changes of dpkg's selections; the engine's packages only."""
    names = {entry.partition("=")[0] for entry in packages}
    # The distributions' engine brings these two with it.
    engine = names & HELD | ({"containerd", "runc"} if "docker.io" in names else set())
    # Moving a held package to another version lets it go.
    left = set(held) - {entry.partition("=")[0] for entry in packages if "=" in entry}
    return [
        {"name": one, "selection": "hold" if hold else "install"} for one in sorted(engine) if (one in left) is not hold
    ]


def docker_files(settings: dict[str, Any], installed: str) -> list[dict[str, Any]]:
    """Entries for the module C(files). The settings first: when they are refused, nothing calls for a restart."""
    config: dict[str, Any] = {"path": CONFIG, "content": json.dumps(settings, indent=2, sort_keys=True) + "\n"}
    if installed and number(installed) >= number(VALIDATES):
        config["validate"] = "dockerd --validate --config-file %s"
    fixed = {name: value for name, value in settings.items() if name not in RELOADABLE}
    mark = {"comment": "Managed by Ansible (bulwark.stack): a change of these settings restarts the engine.", **fixed}
    return [
        {"path": "/etc/docker", "state": "directory"},
        config,
        {"path": RESTART_MARK, "content": json.dumps(mark, indent=2, sort_keys=True) + "\n"},
    ]


def docker_units(oncalendar: str, days: int, unused_images: bool) -> list[dict[str, Any]]:
    """Entries for the role C(systemd_unit): the engine, and the timer that prunes."""
    filters = f"--force --filter until={int(days) * 24}h"
    prune: list[dict[str, Any]] = [
        {
            "name": "docker-prune.service",
            "sections": {
                "Unit": {
                    "Description": "Remove images and build layers that nothing uses",
                    "After": "docker.service",
                    "Requires": "docker.service",
                },
                "Service": {
                    "Type": "oneshot",
                    "ExecStart": [
                        f"/usr/bin/docker image prune {'--all ' if unused_images else ''}{filters}",
                        # Without the build plugin there is no build cache either.
                        f"-/usr/bin/docker builder prune {filters}",
                    ],
                    "RestrictAddressFamilies": "AF_UNIX",
                    # Go programs raise their limits when they start, and go on without.
                    "SystemCallErrorNumber": "EPERM",
                    "Nice": 10,
                    "IOSchedulingClass": "idle",
                },
            },
        },
        {
            "name": "docker-prune.timer",
            "sections": {
                "Unit": {"Description": "Remove unused images and build layers from time to time"},
                "Timer": {"OnCalendar": oncalendar, "RandomizedDelaySec": "1h", "Persistent": True},
                "Install": {"WantedBy": "timers.target"},
            },
            "enabled": True,
            "state": "started",
        },
    ]
    if not oncalendar:
        prune = [{"name": "docker-prune.timer", "state": "absent"}, {"name": "docker-prune.service", "state": "absent"}]
    return [
        # In this order: the reload turns live-restore on, so that the restart leaves containers running.
        {"name": "docker.service", "enabled": True, "state": "started", "reload_on": [CONFIG]},
        {"name": "docker.service", "restart_on": [RESTART_MARK]},
        *prune,
    ]
