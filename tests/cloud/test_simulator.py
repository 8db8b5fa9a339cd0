"""The judge is judged: paging, filters, the life of a server, every answer against the documents if they are given."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import openapi
from tests.cloud.hetzner import selected
from tests.cloud.simulator import PROVIDERS, Simulator
from tests.cloud.situations import awkward, expected_ids

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxhYm9yYXRvcnlsYWJvcmF0b3J5bGFib3JhdG9yeWxh someone"


class Client:
    """The plainest there is."""

    def __init__(self, simulator: Simulator, provider: str) -> None:
        self.simulator, self.provider = simulator, provider

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        request = urllib.request.Request(
            self.simulator.url(self.provider) + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.simulator.token(self.provider)}",
                **({} if body is None else {"Content-Type": "application/json"}),
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            self(method, path, body)
        return caught.value.code, json.loads(caught.value.read())


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(hosts=130) as one:
        # A test is faster than a person.
        one.apis["vultr"].limits[0].most = 1000
        yield one
        assert not [text for text in one.violations if "the simulator failed" in text]


def check_documents(simulator: Simulator, documents: dict[str, openapi.Document]) -> None:
    wrong = openapi.request_faults(simulator.log, documents)
    for one in simulator.log:
        document = documents.get(one.provider)
        if document:
            name = f"{one.provider} {one.method} {one.path}: "
            faults = document.answer_faults(one.method, one.path, one.status, one.answer)
            # The same mistake in each of a hundred servers is one.
            told = {re.sub(r"\[\d+\]", "[]", text) for text in faults}
            wrong |= {name + text for text in told if not any(gap in text for gap in openapi.GAPS)}
    assert not wrong, "\n".join(sorted(wrong))


def test_all_pages_are_all_servers(simulator: Simulator, documents: dict[str, openapi.Document]) -> None:
    for provider in PROVIDERS:
        client, found, cursor = Client(simulator, provider), [], ""
        for page in range(1, 5):
            if provider == "vultr":
                answer = client("GET", f"/instances?per_page=50{cursor and '&cursor=' + cursor}")
                cursor = answer["meta"]["links"]["next"]
            elif provider == "linode":
                answer = client("GET", f"/linode/instances?page_size=50&page={page}")
                assert answer["pages"] == 3
            else:
                answer = client("GET", f"{simulator.apis[provider].list_path}?per_page=50&page={page}")
            found += [str(one["id"]) for one in answer[simulator.apis[provider].list_key]]
            if len(found) >= 130:
                break
        assert sorted(found) == expected_ids(simulator, provider)
        client("GET", simulator.apis[provider].second_path)
    assert not simulator.violations
    check_documents(simulator, documents)


def test_awkward_servers_are_in_the_documents(simulator: Simulator, documents: dict[str, openapi.Document]) -> None:
    for provider in PROVIDERS:
        simulator.apis[provider].accounts.clear()
        simulator.add_account(provider, "main", awkward(provider))
        Client(simulator, provider)("GET", simulator.apis[provider].list_path)
    # A word that the documents do not know yet, and an image that is null where they say it never is.
    openapi_wrong = {"hibernating", "None is not of type"}
    for one in simulator.log:
        if one.provider in documents:
            faults = documents[one.provider].answer_faults(one.method, one.path, one.status, one.answer)
            known = {*openapi.GAPS, *openapi_wrong}
            assert not [text for text in faults if not any(gap in text for gap in known)]


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("env=prod", True), ("env==prod", True), ("env!=prod", False), ("env", True), ("!env", False), ("!other", True),
        ("env in (test, prod)", True), ("env notin (test,prod)", False), ("env=prod,tier", True), ("tier=", True),
        ("env=prod,!tier", False), ("other!=x", True), ("other in (a,b)", False), ("other notin (a)", True),
    ],
)  # fmt: skip
def test_label_selectors(selector: str, fits: bool) -> None:
    assert selected({"env": "prod", "tier": ""}, selector) is fits


def test_what_a_request_may_not_be(simulator: Simulator) -> None:
    Client(simulator, "hetzner")("GET", "/servers?per_page=51&colour=red")
    status, body = Client(simulator, "linode").refused("GET", "/linode/instances?page_size=10")
    assert (status, body["errors"][0]["field"]) == (400, "page_size")
    assert Client(simulator, "vultr").refused("GET", "/no-such-thing")[0] == 404
    status, body = Client(simulator, "hetzner").refused("POST", "/servers", {"name": "x", "size": "big"})
    assert (status, body["error"]["code"]) == (422, "invalid_input")
    assert len(simulator.violations) == 7, simulator.violations


@pytest.mark.parametrize("provider", PROVIDERS)
def test_bad_tokens_and_scopes(simulator: Simulator, provider: str) -> None:
    client, path = Client(simulator, provider), simulator.apis[provider].list_path
    account = simulator.account(provider)
    account.scopes, account.addresses = ["/else"], provider != "vultr"
    assert client.refused("GET", path)[0] == (401 if provider in ("vultr", "linode") else 403)
    account.scopes, account.addresses = None, True
    simulator.apis[provider].accounts = {"another": account}
    assert client.refused("GET", path)[0] == 401


def hetzner_life(client: Client) -> None:
    key = client("POST", "/ssh_keys", {"name": "me", "public_key": KEY})["ssh_key"]
    assert client.refused("POST", "/ssh_keys", {"name": "you", "public_key": KEY})[0] == 409
    network = client("POST", "/networks", {
        "name": "inner", "ip_range": "10.1.0.0/16",
        "subnets": [{"type": "cloud", "ip_range": "10.1.0.0/24", "network_zone": "eu-central"}],
    })["network"]  # fmt: skip
    rule = {"direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["0.0.0.0/0", "::/0"]}
    wall = client("POST", "/firewalls", {"name": "wall", "rules": [rule]})["firewall"]
    wish = {
        "name": "web1", "server_type": "cpx22", "image": "debian-13", "location": "nbg1", "ssh_keys": [str(key["id"])],
        "networks": [network["id"]], "firewalls": [{"firewall": wall["id"]}], "user_data": "#cloud-config\n",
        "labels": {"bulwark-role": "web"},
    }  # fmt: skip
    made = client("POST", "/servers", wish)
    assert made["server"]["status"] == "initializing"
    assert client.refused("POST", "/servers", wish)[0] == 409
    assert client("GET", f"/actions/{made['action']['id']}")["action"]["status"] == "success"
    server = client("GET", f"/servers/{made['server']['id']}")["server"]
    assert server["status"] == "running"
    assert server["private_net"][0]["ip"] == "10.1.0.2"
    volume = client("POST", "/volumes", {"name": "data", "size": 10, "server": server["id"], "format": "ext4"})[
        "volume"
    ]
    assert client.refused("DELETE", f"/volumes/{volume['id']}")[0] == 422
    assert client.refused("DELETE", f"/firewalls/{wall['id']}")[0] == 422
    client("POST", "/load_balancers", {
        "name": "front", "load_balancer_type": "lb11", "location": "nbg1",
        "services": [{"protocol": "tcp", "listen_port": 443, "destination_port": 443, "proxyprotocol": False,
                      "health_check": {"protocol": "tcp", "port": 443, "interval": 15, "timeout": 10, "retries": 3}}],
        "targets": [{"type": "server", "server": {"id": server["id"]}}],
    })  # fmt: skip
    change = {"server_type": "cpx32", "upgrade_disk": False}
    assert client.refused("POST", f"/servers/{server['id']}/actions/change_type", change)[0] == 422
    client("POST", f"/servers/{server['id']}/actions/poweroff")
    client("POST", f"/servers/{server['id']}/actions/change_type", change)
    client("POST", f"/servers/{server['id']}/actions/create_image", {"type": "snapshot", "description": "weekly"})
    assert client("GET", "/images?type=snapshot")["images"][0]["created_from"]["name"] == "web1"
    zone = client("POST", "/zones", {"name": "example.com", "mode": "primary"})["zone"]
    client("POST", f"/zones/{zone['id']}/rrsets", {"name": "www", "type": "A", "records": [{"value": "192.0.2.1"}]})
    client("POST", "/zones/example.com/rrsets/www/A/actions/set_records", {"records": [{"value": "192.0.2.2"}]})
    assert client("GET", "/zones/example.com/rrsets?name=www")["rrsets"][0]["records"][0]["value"] == "192.0.2.2"
    for path in ("/pricing", "/server_types", "/load_balancers", "/volumes", "/firewalls", "/ssh_keys", "/locations"):
        client("GET", path)
    client("DELETE", f"/servers/{server['id']}")
    client("DELETE", f"/volumes/{volume['id']}")
    client("DELETE", f"/firewalls/{wall['id']}")
    client("DELETE", f"/networks/{network['id']}")
    assert client.refused("GET", f"/servers/{server['id']}")[0] == 404


def digitalocean_life(client: Client) -> None:
    key = client("POST", "/account/keys", {"name": "me", "public_key": KEY})["ssh_key"]
    vpc = client("POST", "/vpcs", {"name": "inner", "region": "fra1", "ip_range": "10.50.0.0/20"})["vpc"]
    made = client("POST", "/droplets", {
        "name": "web1", "region": "fra1", "size": "s-1vcpu-1gb", "image": "debian-13-x64", "ssh_keys": [key["id"]],
        "vpc_uuid": vpc["id"], "tags": ["role:web"], "ipv6": True, "user_data": "#cloud-config\n",
    })  # fmt: skip
    droplet = made["droplet"]
    assert (droplet["status"], droplet["networks"]["v4"]) == ("new", [])
    assert client("GET", f"/actions/{made['links']['actions'][0]['id']}")["action"]["status"] == "completed"
    droplet = client("GET", f"/droplets/{droplet['id']}")["droplet"]
    assert [one["type"] for one in droplet["networks"]["v4"]] == ["private", "public"]
    assert client("GET", "/droplets?per_page=200&tag_name=role:web")["droplets"][-1]["id"] == droplet["id"]
    everywhere = {"addresses": ["0.0.0.0/0", "::/0"]}
    wall = client("POST", "/firewalls", {
        "name": "wall", "tags": ["role:web"], "droplet_ids": [droplet["id"]],
        "inbound_rules": [{"protocol": "tcp", "ports": "22", "sources": everywhere}],
        "outbound_rules": [{"protocol": "tcp", "ports": "all", "destinations": everywhere}],
    })["firewall"]  # fmt: skip
    volume = client("POST", "/volumes", {
        "name": "data", "region": "fra1", "size_gigabytes": 10, "filesystem_type": "ext4",
    })["volume"]  # fmt: skip
    client(
        "POST", f"/volumes/{volume['id']}/actions", {"type": "attach", "droplet_id": droplet["id"], "region": "fra1"}
    )
    assert client("GET", f"/volumes/{volume['id']}")["volume"]["droplet_ids"] == [droplet["id"]]
    assert client.refused("DELETE", f"/volumes/{volume['id']}")[0] == 409
    client("POST", "/load_balancers", {
        "name": "front", "region": "fra1", "tag": "role:web",
        "forwarding_rules": [
            {"entry_protocol": "tcp", "entry_port": 443, "target_protocol": "tcp", "target_port": 443}
        ],
    })  # fmt: skip
    client("POST", "/domains", {"name": "example.com"})
    client("POST", "/domains/example.com/records", {"type": "A", "name": "www", "data": "192.0.2.1"})
    assert client("GET", "/domains/example.com/records?type=A&name=www.example.com")["domain_records"]
    client("POST", f"/droplets/{droplet['id']}/actions", {"type": "snapshot", "name": "weekly"})
    assert client("GET", "/snapshots?resource_type=droplet")["snapshots"][0]["resource_id"] == str(droplet["id"])
    for path in ("/sizes", "/regions", "/load_balancers", "/firewalls", "/account/keys", "/tags", "/vpcs", "/account"):
        client("GET", path)
    client("DELETE", f"/droplets/{droplet['id']}")
    for path in (f"/firewalls/{wall['id']}", f"/volumes/{volume['id']}", f"/vpcs/{vpc['id']}"):
        client("DELETE", path)


def vultr_life(client: Client) -> None:
    key = client("POST", "/ssh-keys", {"name": "me", "ssh_key": KEY})["ssh_key"]
    vpc = client("POST", "/vpcs", {"region": "fra", "v4_subnet": "10.60.0.0", "v4_subnet_mask": 24})["vpc"]
    group = client("POST", "/firewalls", {"description": "wall"})["firewall_group"]
    rule = {"ip_type": "v4", "protocol": "TCP", "subnet": "0.0.0.0", "subnet_size": 0, "port": "22"}
    client("POST", f"/firewalls/{group['id']}/rules", rule)
    assert client.refused("POST", f"/firewalls/{group['id']}/rules", rule)[0] == 400
    wish = {
        "region": "fra", "plan": "vc2-1c-1gb", "os_id": 2625, "label": "web1", "hostname": "web1", "enable_ipv6": True,
        "tags": ["role:web"], "sshkey_id": [key["id"]], "attach_vpc": [vpc["id"]], "firewall_group_id": group["id"],
        "user_data": "I2Nsb3VkLWNvbmZpZwo=",
    }  # fmt: skip
    instance = client("POST", "/instances", wish)["instance"]
    assert (instance["status"], instance["main_ip"]) == ("pending", "0.0.0.0")
    assert client.refused("POST", "/instances", {**wish, "image_id": "docker"})[0] == 400
    instance = client("GET", f"/instances/{instance['id']}")["instance"]
    assert (instance["status"], instance["vpcs"][0]["subnet"]) == ("active", "10.60.0.3")
    assert "default_password" not in instance
    block = client("POST", "/blocks", {"region": "fra", "size_gb": 10, "label": "data"})["block"]
    client("POST", f"/blocks/{block['id']}/attach", {"instance_id": instance["id"], "live": True})
    assert client("GET", f"/blocks/{block['id']}")["block"]["attached_to_instance"] == instance["id"]
    client("POST", "/load-balancers", {
        "region": "fra", "label": "front", "instances": [instance["id"]], "vpc": vpc["id"],
        "forwarding_rules": [
            {"frontend_protocol": "tcp", "frontend_port": 443, "backend_protocol": "tcp", "backend_port": 443}
        ],
    })  # fmt: skip
    client("PATCH", f"/instances/{instance['id']}", {"plan": "vc2-2c-4gb", "tags": ["role:db"]})
    client("POST", "/snapshots", {"instance_id": instance["id"], "description": "weekly"})
    assert client("GET", "/snapshots?description=weekly")["snapshots"][0]["status"] == "complete"
    client("POST", "/domains", {"domain": "example.com"})
    record = client("POST", "/domains/example.com/records", {"name": "www", "type": "A", "data": "192.0.2.1"})["record"]
    client("PATCH", f"/domains/example.com/records/{record['id']}", {"data": "192.0.2.2"})
    assert client("GET", "/domains/example.com/records")["records"][0]["data"] == "192.0.2.2"
    for path in ("/plans", "/plans-metal", "/regions", "/os", "/blocks", "/load-balancers", "/ssh-keys", "/firewalls",
                 f"/firewalls/{group['id']}/rules", "/domains", "/account"):  # fmt: skip
        client("GET", path)
    assert client.refused("DELETE", f"/vpcs/{vpc['id']}")[0] == 400
    client("DELETE", f"/instances/{instance['id']}")
    for path in (f"/vpcs/{vpc['id']}", f"/blocks/{block['id']}", f"/firewalls/{group['id']}"):
        client("DELETE", path)


def linode_life(client: Client) -> None:
    client("POST", "/profile/sshkeys", {"label": "me", "ssh_key": KEY})
    vpc = client("POST", "/vpcs", {
        "label": "inner", "region": "de-fra-2", "subnets": [{"label": "one", "ipv4": "10.70.0.0/24"}],
    })  # fmt: skip
    rules = {
        "inbound_policy": "DROP", "outbound_policy": "ACCEPT",
        "inbound": [{"action": "ACCEPT", "protocol": "TCP", "ports": "22", "label": "ssh",
                     "addresses": {"ipv4": ["0.0.0.0/0"], "ipv6": ["::/0"]}}],
    }  # fmt: skip
    wall = client("POST", "/networking/firewalls", {"label": "wall", "rules": rules})
    wish = {
        "region": "de-fra-2", "type": "g6-nanode-1", "image": "linode/debian13", "label": "web1", "tags": ["role:web"],
        "authorized_keys": [KEY], "firewall_id": wall["id"], "metadata": {"user_data": "I2Nsb3VkLWNvbmZpZwo="},
        "interfaces": [{"purpose": "public", "primary": True},
                       {"purpose": "vpc", "subnet_id": vpc["subnets"][0]["id"]}],
    }  # fmt: skip
    instance = client("POST", "/linode/instances", wish)
    assert instance["status"] == "provisioning"
    assert client.refused("POST", "/linode/instances", wish)[0] == 400
    assert client("GET", f"/linode/instances/{instance['id']}")["status"] == "running"
    address = client("GET", "/vpcs/ips?page_size=500")["data"][-1]
    assert (address["linode_id"], address["address"]) == (instance["id"], "10.70.0.2")
    assert client("GET", "/linode/instances", X_Filter='{"label": {"+contains": "web1"}}')["results"] == 1
    assert client("GET", "/linode/instances", X_Filter='{"tags": "role:web"}')["results"] == 44
    volume = client("POST", "/volumes", {"label": "data", "size": 10, "linode_id": instance["id"]})
    assert client.refused("DELETE", f"/volumes/{volume['id']}")[0] == 400
    client("PUT", f"/networking/firewalls/{wall['id']}/rules", rules)
    assert client("GET", f"/networking/firewalls/{wall['id']}/devices")["results"] == 1
    balancer = client("POST", "/nodebalancers", {"region": "de-fra-2", "label": "front"})
    config = client("POST", f"/nodebalancers/{balancer['id']}/configs", {"port": 443, "protocol": "tcp"})
    node = {"label": "web1", "address": "192.168.130.5:443"}
    client("POST", f"/nodebalancers/{balancer['id']}/configs/{config['id']}/nodes", node)
    disks = client("GET", f"/linode/instances/{instance['id']}/disks")["data"]
    image = client("POST", "/images", {"disk_id": disks[0]["id"], "label": "weekly"})
    assert client("GET", f"/images/{image['id'].replace('/', '%2F')}")["status"] == "available"
    domain = client("POST", "/domains", {"domain": "example.com", "type": "master", "soa_email": "me@example.com"})
    client("POST", f"/domains/{domain['id']}/records", {"type": "A", "name": "www", "target": "192.0.2.1"})
    for path in ("/linode/types", "/regions", "/volumes/types", "/nodebalancers/types", "/volumes", "/nodebalancers",
                 "/domains", "/networking/firewalls", "/profile/sshkeys", "/vpcs", "/account/events",
                 f"/domains/{domain['id']}/records", f"/nodebalancers/{balancer['id']}/configs"):  # fmt: skip
        client("GET", path)
    assert client.refused("DELETE", f"/vpcs/{vpc['id']}")[0] == 400
    client("DELETE", f"/linode/instances/{instance['id']}")
    for path in (f"/vpcs/{vpc['id']}", f"/volumes/{volume['id']}", f"/networking/firewalls/{wall['id']}"):
        client("DELETE", path)


@pytest.mark.parametrize("life", [hetzner_life, digitalocean_life, vultr_life, linode_life])
def test_the_life_of_a_server(simulator: Simulator, documents: dict[str, openapi.Document], life: Any) -> None:
    life(Client(simulator, life.__name__.partition("_")[0]))
    assert not simulator.violations
    check_documents(simulator, documents)


def test_as_a_command() -> None:
    """What it prints, its log and its orders; a scenario is one of the situations."""
    simulator = Path(__file__).with_name("simulator.py")
    with subprocess.Popen(
        [sys.executable, str(simulator), "--hosts", "7"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            account = json.loads(process.stdout.readline())["vultr"]
            base = account["api_url"].partition("/vultr")[0]

            def _ask(method: str, url: str, body: Any = None) -> Any:
                data = None if body is None else json.dumps(body).encode()
                request = urllib.request.Request(url, method=method, data=data)
                request.add_header("Authorization", f"Bearer {account['api_token']}")
                return json.load(urllib.request.urlopen(request, timeout=10))

            assert _ask("GET", account["api_url"] + "/instances?colour=red")["meta"]["total"] == 7
            log = _ask("GET", base + "/control/log")
            assert [one["path"] for one in log] == ["/instances"]
            assert account["api_token"] not in json.dumps(log)
            assert len(_ask("GET", base + "/control/violations")) == 1
            _ask("PUT", base + "/control", {"hosts": 9, "scenario": "500 once", "provider": "vultr"})
            with pytest.raises(urllib.error.HTTPError):
                _ask("GET", account["api_url"] + "/instances")
            assert _ask("GET", account["api_url"] + "/instances")["meta"]["total"] == 9
        finally:
            process.terminate()


def test_a_server_that_boots_slowly(simulator: Simulator) -> None:
    api, client = simulator.apis["hetzner"], Client(simulator, "hetzner")
    api.boot_seconds = 3600
    made = client("POST", "/servers", {"name": "slow", "server_type": "cpx22", "image": "debian-13"})["server"]
    assert client("GET", f"/servers/{made['id']}")["server"]["status"] == "initializing"
    simulator.clock.skew = 3601
    assert client("GET", f"/servers/{made['id']}")["server"]["status"] == "running"
