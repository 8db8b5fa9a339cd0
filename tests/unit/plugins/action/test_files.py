"""files on the controller: templates and files become content, secrets change their name."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleActionFail, AnsibleUndefinedVariable

from plugins.action import files


def sent(act, entry, **more):
    done = act(files, files=[{"path": "/x", **entry}], **more)
    assert done.sent[0][0] == "bulwark.stack.files"
    return done.sent[0][1]["files"][0]


def test_a_template_is_rendered_with_its_own_variables(act, role):
    (role / "templates/a.j2").write_text("{{ owner }}\n{% if true %}\nyes\n{% endif %}\n{{ mine }}\n")
    entry = {"template": "a.j2", "vars": {"mine": "m"}}
    assert sent(act, entry, variables={"owner": "o"}) == {"path": "/x", "content": "o\nyes\nm\n"}


def test_an_empty_template_is_an_empty_file(act, role):
    (role / "templates/a.j2").write_text("")
    assert sent(act, {"template": "a.j2"})["content"] == ""


def test_a_template_may_include_its_neighbour(act, role):
    (role / "templates/a.j2").write_text("{% include 'b.j2' %}\n")
    (role / "templates/b.j2").write_text("b")
    assert sent(act, {"template": "a.j2"})["content"] == "b\n"


def test_a_file_is_read_and_not_rendered(act, role):
    (role / "files/a.sh").write_text("echo {{ not_a_variable }} ü\n")
    assert sent(act, {"src": "a.sh"})["content"] == "echo {{ not_a_variable }} ü\n"


@pytest.mark.parametrize("source", [{"content": "s3cret"}, {"template": "a.j2"}, {"src": "a"}])
def test_a_secret_changes_its_name(act, role, source):
    (role / "templates/a.j2").write_text("s3cret")
    (role / "files/a").write_text("s3cret")
    assert sent(act, {"secret": True, **source}) == {"path": "/x", "secret_content": "s3cret"}


def test_no_secret_after_all(act):
    assert sent(act, {"secret": "no", "content": "x"}) == {"path": "/x", "content": "x"}


def test_what_has_no_content_passes(act):
    entry = {"path": "/x", "state": "link", "target": "y", "secret": False}
    assert sent(act, entry) == {"path": "/x", "state": "link", "target": "y"}


def test_the_task_stays_as_it_was(act, role):
    entry = {"path": "/x", "content": "x", "secret": True}
    act(files, files=[entry])
    assert entry == {"path": "/x", "content": "x", "secret": True}


def test_the_other_options_pass(act):
    done = act(files, files=[], purge=["/etc/x"], validate=["nginx -t"])
    assert done.sent[0][1] == {"files": [], "purge": ["/etc/x"], "validate": ["nginx -t"]}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"template": "a.j2", "content": "x"}, "has template and content; give one"),
        ({"template": "missing.j2"}, "not in the role's templates/"),
        ({"src": "missing"}, "not in the role's files/"),
    ],
)
def test_refusals(act, role, entry, words):
    with pytest.raises(AnsibleActionFail, match=words):
        sent(act, entry)


@pytest.mark.parametrize("value", ["/x", [["/x"]], {"path": "/x"}])
def test_a_list_of_dictionaries_is_wanted(act, value):
    with pytest.raises(AnsibleActionFail, match="list of dictionaries"):
        act(files, files=value)


def test_an_undefined_variable_stops_before_the_host(act, role):
    (role / "templates/a.j2").write_text("{{ nowhere }}")
    with pytest.raises(AnsibleUndefinedVariable):
        sent(act, {"template": "a.j2"})
