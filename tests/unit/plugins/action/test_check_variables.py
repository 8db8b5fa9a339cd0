"""check_variables: misspelt names are errors with a hint, everything else passes."""

from __future__ import annotations

import pytest

from plugins.action import check_variables as check

ROLES = {
    "redis": {"redis_instances", "redis_memory_mb"},
    "postgres_tuned": {"postgres_tuned_version"},
    "docker": {"docker_users"},
}
SHARED = {"bulwark_domain"}


@pytest.mark.parametrize(
    "name",
    ["redis_instances", "bulwark_domain", "rediss", "my_redis_instances", "__redis_plan", "ansible_user", "redis"],
)
def test_names_that_pass(name):
    assert check.unknown_variables([name], ROLES, SHARED) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("redis_instance", "redis_instances"),
        ("redis_memory", "redis_memory_mb"),
        ("postgres_tuned_verison", "postgres_tuned_version"),
        ("bulwark_domian", "bulwark_domain"),
    ],
)
def test_a_typo_gets_a_hint(name, hint):
    assert check.unknown_variables([name], ROLES, SHARED) == [
        f"'{name}' is not a variable of this collection. Did you mean '{hint}'?"
    ]


def test_no_hint_where_nothing_is_near():
    assert check.unknown_variables(["docker_zzzzzzzzzzz"], ROLES, SHARED) == [
        "'docker_zzzzzzzzzzz' is not a variable of this collection."
    ]


def test_all_are_told_at_once(act):
    done = act(check, variables={"redis_instnces": [], "host_plan_servcies": [], "other": 1})
    assert done.result["failed"]
    assert "'redis_instances'" in done.result["msg"]
    assert "'host_plan_services'" in done.result["msg"]
    assert done.sent == []


def test_own_names_can_be_ignored(act):
    assert not act(check, variables={"redis_mine": 1}, ignore=["redis_mine"]).result.get("failed")


def test_every_default_of_every_role_is_known():
    """The names that the collection itself brings must not be refused."""
    names = [name for options in check.role_options().values() for name in options]
    assert len(names) > 20
    assert check.unknown_variables([*names, *check.shared_names()], check.role_options(), check.shared_names()) == []


def test_the_specs_are_read_from_the_roles(tmp_path):
    for role, spec in {
        "a": "argument_specs: {main: {options: {a_x: {type: str}}}, deploy: {options: {a_y: {type: str}}}}",
        "b": "argument_specs: {main: {short_description: none}}",
    }.items():
        (tmp_path / f"roles/{role}/meta").mkdir(parents=True)
        (tmp_path / f"roles/{role}/meta/argument_specs.yml").write_text(spec)
        (tmp_path / f"roles/{role}/defaults").mkdir()
        (tmp_path / f"roles/{role}/defaults/main.yml").write_text('a_x: "{{ bulwark_x2 | default(1) }}"')
    assert check.role_options(tmp_path) == {"a": {"a_x": {"type": "str"}, "a_y": {"type": "str"}}, "b": {}}
    assert check.shared_names(tmp_path) >= {"bulwark_x2"}


SPECS = {
    "redis": {
        "redis_memory_mb": {"type": "int"},
        "redis_instances": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, "password": {"type": "str", "no_log": True}},
        },
    }
}


def test_a_wrong_type_is_told_by_name():
    (problem,) = check.wrong_values({"redis_memory_mb": "five"}, SPECS)
    assert "redis_memory_mb" in problem
    assert "int" in problem


def test_what_can_be_converted_and_what_is_a_template_passes():
    assert check.wrong_values({"redis_memory_mb": "5"}, SPECS) == []
    assert check.wrong_values({"redis_memory_mb": "{{ five }}"}, SPECS) == []


def test_values_beside_a_secret_are_not_quoted():
    (problem,) = check.wrong_values({"redis_instances": [{"password": "needle"}]}, SPECS)
    assert "needle" not in problem
    assert "redis_instances" in problem
