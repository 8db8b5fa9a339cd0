"""Releases: their names, which one comes next, which ones go, and where the traffic is led."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.modules.release import (
    MARK,
    Releases,
    environment_values,
    pip_complaint,
    ref_digest,
    release_id,
)


class Failed(Exception):
    pass


def make(tmp_path: Path, **params: Any) -> Releases:
    def fail(msg: str, **_: Any) -> None:
        raise Failed(msg)

    def leave(**answer: Any) -> None:
        raise StopIteration(answer)

    values = {
        "app": "shop",
        "id": "",
        "keep": 3,
        "serve": False,
        "health_path": "/health",
        "health_host": "x",
        **params,
    }
    module = SimpleNamespace(params=values, fail_json=fail, exit_json=leave, check_mode=False)
    releases = Releases(module)  # type: ignore[arg-type]
    releases.root = str(tmp_path)
    releases.run_dir = str(tmp_path / "run")
    (tmp_path / "run").mkdir(exist_ok=True)
    (tmp_path / "releases").mkdir(exist_ok=True)
    return releases


def add(tmp_path: Path, release: str, **mark: Any) -> None:
    folder = tmp_path / "releases" / release / ".venv/bin"
    folder.mkdir(parents=True)
    (folder / "python").touch()
    if mark:
        (tmp_path / "releases" / release / MARK).write_text(json.dumps(mark))


def test_release_is_named_by_code_and_settings():
    one = release_id("a" * 64, ["requirements.txt", "/usr/bin/python3"])
    assert one.startswith("a" * 12 + "-")
    assert one != release_id("a" * 64, ["requirements.txt", "/usr/bin/python3.12"])


def test_tag_wins_over_branch_and_leads_to_its_commit():
    listing = "1\tHEAD\n2\trefs/heads/v1\n3\trefs/tags/v1\n4\trefs/tags/v1^{}\n5\trefs/heads/main\n"
    assert [ref_digest(listing, name) for name in ("v1", "main", "HEAD", "v2")] == ["4", "5", "1", ""]


def test_pip_complains_in_one_sentence():
    text = "WARNING: x\nERROR: Could not find a version\nERROR: No matching distribution found for a==9\nnotice\n"
    assert pip_complaint(text) == "Could not find a version No matching distribution found for a==9"


def test_secrets_are_read_back_from_the_environment():
    text = '# x\nA="a\\"b\\$c\\\\d-long"\nB="short"\nC="two\nlong-lines"\n'
    assert environment_values(text) == ['a"b$c\\d-long', "long-lines"]


def test_full_disk_leaves_nothing_behind(tmp_path):
    add(tmp_path, "new")
    releases = make(tmp_path, id="new")
    error = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
    releases.module.run_command = lambda *_, **__: (1, "", error)
    with pytest.raises(Failed, match=r"what serves was not touched: requirements\.txt .* No space left on device$"):
        releases.as_app("requirements.txt", ["pip"])
    assert os.listdir(tmp_path / "releases") == []


def test_release_before_is_chosen(tmp_path):
    add(tmp_path, "one", built=1)
    add(tmp_path, "two", built=2, previous="one", good=True)
    (tmp_path / "current").symlink_to("releases/two")
    with pytest.raises(StopIteration) as stop:
        make(tmp_path).chosen()
    assert stop.value.value["id"] == "one"
    assert stop.value.value["pending"] is True


def test_no_release_before(tmp_path):
    add(tmp_path, "one", built=1)
    (tmp_path / "current").symlink_to("releases/one")
    with pytest.raises(Failed, match="no release before the current one; there are one, and one is the current one"):
        make(tmp_path).chosen()


def test_unfinished_release_is_not_chosen(tmp_path):
    add(tmp_path, "one", built=1)
    add(tmp_path, "half")
    with pytest.raises(Failed, match="release half is not on this host; there are one, and none"):
        make(tmp_path, id="half").chosen()


def test_prune_keeps_the_newest_and_the_way_back(tmp_path):
    for number in range(1, 8):
        add(tmp_path, f"r{number}", built=number)
    add(tmp_path, "half")
    (tmp_path / "releases/r2" / MARK).write_text(json.dumps({"built": 2, "previous": "r1"}))
    (tmp_path / "current").symlink_to("releases/r2")
    make(tmp_path, id="r7", keep=4).prune()
    assert sorted(os.listdir(tmp_path / "releases")) == ["r1", "r2", "r6", "r7"]


def listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.settimeout(1)
    return listener


def test_second_name_of_a_run_that_was_killed_goes(tmp_path):
    releases = make(tmp_path)
    web = f"{releases.run_dir}/web.sock"
    with listen(web):
        os.link(web, f"{releases.run_dir}/main.sock")
        releases.return_traffic()
        assert os.listdir(releases.run_dir) == ["web.sock"]


def test_socket_that_was_made_anew_keeps_the_traffic(tmp_path):
    releases = make(tmp_path)
    web = f"{releases.run_dir}/web.sock"
    listen(f"{releases.run_dir}/main.sock").close()
    with listen(web):
        before = os.stat(web).st_ino
        assert not releases.diverted()
        releases.return_traffic()
        assert (os.listdir(releases.run_dir), os.stat(web).st_ino) == (["web.sock"], before)


def test_traffic_goes_to_the_candidate_and_comes_back(tmp_path):
    releases = make(tmp_path)
    listeners = {name: listen(f"{releases.run_dir}/{name}.sock") for name in ("web", "candidate")}

    def connect(name: str) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{releases.run_dir}/web.sock")
            listeners[name].accept()[0].close()

    connect("web")
    releases.divert()
    assert releases.diverted()
    connect("candidate")
    releases.return_traffic()
    connect("web")
    assert os.listdir(releases.run_dir) == ["web.sock"]
    for listener in listeners.values():
        listener.close()
