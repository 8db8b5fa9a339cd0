"""Hashes that crypt(3) knows, and files that come out the same again."""

from __future__ import annotations

import pytest

from plugins.plugin_utils.htpasswd import htpasswd, sha512_crypt

# From crypt(3) of glibc; the first is in the paper that defines the algorithm, too.
KNOWN = [
    (
        "Hello world!",
        "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    (
        "x" * 64,
        "SSoAqlzjEXraQ.dDguxosFViX0Mfw4O.kEQXNqWn2FWfLIsQUWxK3xUguKKWh/yPYlb6YCK5MTl1eAQTuZtVf.",
    ),
    (
        "ü" * 100,
        "YYGIYzUlvjt8DtPRyyRxcUopEeW8LvIA1nnbPfFkbg1hqRwdhKjgnrbd57vNB9Hfy9nVU.Vu05qNYzpH9T8GJ1",
    ),
]


@pytest.mark.parametrize(("password", "digest"), KNOWN)
def test_known_hashes(password, digest):
    assert sha512_crypt(password, "saltstring") == f"$6$saltstring${digest}"


def test_same_again_and_different_elsewhere():
    users = [{"name": "ann", "password": "correct-horse"}, {"name": "bob", "password": "correct-horse"}]
    text = htpasswd(users, "flower")
    assert text == htpasswd(users, "flower")
    ann, bob = text.splitlines()
    assert ann.startswith("ann:$6$")
    assert ann.split(":")[1] != bob.split(":")[1]
    assert text != htpasswd(users, "dashboard")
    assert "correct-horse" not in text
