"""How roles and labels are written on servers, and read again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plugins.module_utils._cloud.marks import MARK, from_labels, from_tags, to_labels, to_tags

ROLES = st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), unique=True, max_size=5).map(sorted)
LABELS = st.dictionaries(
    st.from_regex(r"(?!role$|bulwark)[a-z][a-z0-9_-]{1,10}[a-z0-9]", fullmatch=True),
    st.from_regex(r"([a-z0-9]([a-z0-9_-]{0,10}[a-z0-9])?)?", fullmatch=True),
)


@given(ROLES, LABELS)
def test_labels_come_back(roles: list[str], labels: dict[str, str]):
    written = to_labels(roles, labels)
    assert MARK in written
    assert from_labels(written) == (roles, labels)


@given(ROLES, LABELS)
def test_tags_come_back(roles: list[str], labels: dict[str, str]):
    written = to_tags(roles, labels)
    assert MARK in written
    assert from_tags(written) == (roles, labels)


def test_tags_of_other_origin_are_labels():
    assert from_tags(["role:web", "by hand", "a:b:c"]) == (["web"], {"by hand": "", "a": "b:c"})
