"""sysctls against a directory that plays /proc/sys."""

from __future__ import annotations

import os

import pytest

from plugins.modules import sysctls


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    root = tmp_path / "proc"
    (root / "vm").mkdir(parents=True)
    (root / "vm/overcommit_memory").write_text("0\n")
    (root / "vm/swappiness").write_text("60\n")
    (root / "ports").write_text("32768\t60999\n")
    real = sysctls.kernel_path
    monkeypatch.setattr(sysctls, "kernel_path", lambda key: real(key).replace("/proc/sys", str(root)))
    return root


def test_values_arrive_now_and_for_every_boot(triple, kernel, tmp_path):
    path = tmp_path / "60-x.conf"
    triple(sysctls, path=str(path), values={"vm.swappiness": 10, "vm.overcommit_memory": True})
    assert (kernel / "vm/swappiness").read_text() == "10"
    assert (kernel / "vm/overcommit_memory").read_text() == "1"
    assert path.read_text() == "# Managed by Ansible (bulwark.stack).\nvm.overcommit_memory = 1\nvm.swappiness = 10\n"


def test_white_space_does_not_count(triple, kernel, tmp_path):
    (tmp_path / "x").write_text("# Managed by Ansible (bulwark.stack).\nports = 32768 60999\n")
    assert not triple(sysctls, path=str(tmp_path / "x"), values={"ports": "32768 60999"})["changed"]


def test_a_key_that_this_kernel_lacks(triple, kernel, tmp_path):
    result = triple(sysctls, path=str(tmp_path / "x"), values={"vm.no_such_key": 1, "vm": 1})
    assert result["unavailable"] == ["vm", "vm.no_such_key"]


def test_check_mode_writes_nothing(run_module, kernel, tmp_path):
    assert run_module(sysctls, check=True, path=str(tmp_path / "x"), values={"vm.swappiness": 1})["changed"]
    assert not (tmp_path / "x").exists()
    assert (kernel / "vm/swappiness").read_text() == "60\n"


def test_a_value_that_the_kernel_does_not_take(triple, kernel, tmp_path, monkeypatch):
    monkeypatch.setattr(sysctls, "set_key", lambda key, value, before: False)
    assert triple(sysctls, path=str(tmp_path / "x"), values={"vm.swappiness": 1})["refused"] == ["vm.swappiness"]


def test_a_value_that_the_kernel_rounds_counts_as_refused(kernel, monkeypatch):
    real = sysctls.kernel_path("vm.swappiness")
    os.unlink(real)
    os.symlink("/dev/null", real)
    # Nothing written to it can be read back: the value before and after are the same.
    assert sysctls.set_key("vm.swappiness", "1", "") is False


def test_a_missing_directory_is_a_sentence(run_module, kernel, tmp_path):
    result = run_module(sysctls, path=str(tmp_path / "no/x.conf"), values={"vm.swappiness": 1})
    assert "cannot be written: No such file" in result["msg"]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("vm.swappiness", "/proc/sys/vm/swappiness"),
        ("net.ipv4.conf.eth0/100.rp_filter", "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
    ],
)
def test_kernel_path(key, path):
    assert sysctls.kernel_path(key) == path


def test_forwarding_comes_first_because_it_resets_the_others():
    values = {"net.ipv4.conf.all.accept_redirects": "0", "net.ipv4.ip_forward": "0", "kernel.x": "1"}
    assert next(key for key, _value in sysctls.in_order(values)) == "net.ipv4.ip_forward"
