"""What was seen, held against what was declared."""

from __future__ import annotations

from plugins.plugin_utils import exposure

RULES = [
    {"port": "22", "proto": "tcp", "from": ["any"], "name": "ssh"},
    {"port": 5432, "from": ["10.0.0.0/8", "2001:db8::/32"], "name": "postgres"},
    {"port": "30000:30010", "from": ["any"], "name": "nodes"},
    {"port": 53, "proto": "udp", "from": ["any"], "name": "dns"},
]


def scan(address="203.0.113.7", source="198.51.100.1", tcp=(22,), refused=(), udp=(), unheard=(), skipped=""):
    return {
        "address": address,
        "source": source,
        "skipped": skipped,
        "tcp_open": [*tcp],
        "tcp_refused": [*refused],
        "udp_open": [*udp],
        "udp_refused": [*unheard],
    }


def found(*scans, client=""):
    rows = exposure.exposure_compared([*scans], "web1", "controller", RULES, client)["rows"]
    return [(row["address"], row["port"], row["is"], row["why"]) for row in rows]


def test_what_is_declared_and_no_more_is_fine():
    assert found(scan(tcp=(22, 30005))) == []


def test_open_ports_that_should_be_closed():
    assert found(scan(tcp=(22, 5432, 6379), udp=(53, 123))) == [
        ("203.0.113.7", "5432/tcp", "open", "the rule 'postgres' lets others in"),
        ("203.0.113.7", "6379/tcp", "open", "no rule names it"),
        ("203.0.113.7", "123/udp", "open", "no rule names it"),
    ]


def test_closed_ports_that_should_be_open():
    assert found(scan(source="10.0.0.1", tcp=(), refused=("1-30", "5432"), unheard=(53,))) == [
        ("203.0.113.7", "22/tcp", "closed", "'ssh': nothing listens"),
        ("203.0.113.7", "5432/tcp", "closed", "'postgres': nothing listens"),
        ("203.0.113.7", "53/udp", "closed", "'dns': nothing listens"),
    ]
    assert found(scan(tcp=(), refused=("9",))) == [("203.0.113.7", "22/tcp", "closed", "'ssh': no answer")]


def test_one_address_of_the_ip_version_is_enough():
    both = scan(source="10.0.0.1", tcp=(22,)), scan("10.0.0.7", "10.0.0.1", tcp=(22, 5432))
    assert found(*both) == []
    six = scan("2001:db8::7", "2001:db8::1", tcp=())
    assert [row[:2] for row in found(*both, six)] == [("2001:db8::7", "22/tcp"), ("2001:db8::7", "5432/tcp")]


def test_host_knows_best_where_the_controller_comes_from():
    behind_a_router = scan(source="10.0.0.1", tcp=(22, 5432))
    assert found(behind_a_router) == []
    assert [row[1] for row in found(behind_a_router, client="198.51.100.1")] == ["5432/tcp"]
    assert found(scan("2001:db8::7", "2001:db8::1", tcp=(22, 5432)), client="198.51.100.1") == []


def test_targets():
    known = ["203.0.113.7", "10.0.0.7", "8.8.8.8", "fd00::7"]
    assert exposure.exposure_targets("web1.test", [], known, False) == ["web1.test", "8.8.8.8"]
    assert exposure.exposure_targets("8.8.8.8", [], known, True) == ["8.8.8.8", "203.0.113.7", "10.0.0.7", "fd00::7"]
    assert exposure.exposure_targets("8.8.8.8", ["10.9.9.9"], known, False) == ["8.8.8.8", "10.9.9.9"]
    assert exposure.exposure_udp_ports([123, 53], [*RULES, {"port": 500, "proto": "udp"}]) == [53, 123, 500]


def test_report():
    good = exposure.exposure_compared([scan()], "web1", "controller", RULES)
    assert exposure.exposure_report([good], [])["ok"]
    bad = exposure.exposure_compared(
        [scan(tcp=(22, 6379)), scan("2001:db8::7", skipped="the scanner has no route to it")], "web1", "db1", RULES
    )
    report = exposure.exposure_report([good, bad], ["web2"])
    assert not report["ok"]
    assert report["table"][0].split()[:4] == ["host", "from", "address", "port"]
    assert "6379/tcp" in report["table"][1]
    assert report["table"][2] == "web1: 2001:db8::7 was not scanned from db1: the scanner has no route to it."
    assert report["table"][-2:] == [
        "web2: it was not scanned, because there is no contact with it.",
        "2 scans, 1 differences.",
    ]
    assert not exposure.exposure_report([], [])["ok"]
    silent = exposure.exposure_compared([scan(tcp=())], "web1", "db1", RULES)
    assert "nothing at all answered to db1" in silent["notes"][0]
