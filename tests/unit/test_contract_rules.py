"""The rules of the contract find what they are there for: a role that breaks all of them, one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit import test_role_contract as contract

BAD = {
    "README.md": "# probe\n" * 50,
    "handlers/main.yml": "[]\n",
    "meta/main.yml": "dependencies: [bulwark.stack.redis]\ngalaxy_info: {author: me}\n",
    "meta/argument_specs.yml": """
argument_specs:
  main:
    short_description: Probe
    options:
      probe_size_mb: {type: int, default: 5, description: A size.}
      probe_wait_timeout: {type: int, description: A time.}
      probe_list: {type: list, description: A list.}
      probe_plain: {type: str}
      probe_password: {type: str, description: A secret.}
      probe_token: {type: str, no_log: true, description: A secret with a sample.}
      probe_firewall_disable: {type: bool, description: A switch.}
      probe_computed: {type: str, default: x, description: Computed.}
      probe_only_here: {type: str, default: x, description: No default.}
      probe_needed: {type: str, required: true, description: Required.}
      other_name: {type: str, description: A stranger.}
""",
    "defaults/main.yml": """
probe_size_mb: 6
probe_wait_timeout: soon
probe_list: []
probe_token: changeme
probe_needed: x
probe_computed: "{{ 1 }}"
probe_unknown: 1
probe_shared: "{{ bulwark_domain }}"
""",
    "vars/main.yml": "probe_constant: 1\n",
    "tasks/main.yml": "- name: Work\n  ansible.builtin.command: 'true'\n",
    "tasks/work.yml": """
- name: Work
  ansible.builtin.set_fact: {probe_size_mb: 7}
- name: Install
  ansible.builtin.apt: {name: x}
  become: true
  tags: [x]
  notify: Restart
- name: Read
  ansible.builtin.debug:
    msg: "{{ ansible_facts.x }} {{ hostvars['a'] }} {{ groups['web'] }} {{ redis_instances }} {{ bulwark_domain }}"
"""
    + "- name: One more\n  ansible.builtin.debug: {msg: x}\n" * 15,
    "templates/probe.conf": "x = {{ probe_size_mb | default(1) }}\n",
}


@pytest.fixture
def bad(tmp_path: Path) -> contract.Role:
    for name, text in BAD.items():
        path = tmp_path / "roles/probe" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return contract.Role("probe", tmp_path)


EXPECTED = {
    "same_places": ["handlers/main.yml has no place"],
    "readme_is_short": ["has 50 lines", "does not say where the variables are"],
    "meta_is_complete": ["depends on bulwark.stack.redis", "galaxy_info.license is missing"],
    "spec_and_defaults_name_the_same": [
        "probe_unknown is not in",
        "default for probe_only_here",
        "requires probe_needed",
    ],
    "spec_and_defaults_say_the_same": ["probe_size_mb is 6", "fixed default for probe_computed"],
    "defaults_have_the_type_of_the_spec": ["probe_wait_timeout is 'soon', which is no int"],
    "options_are_described": [
        "main has no description",
        "probe_plain has no description",
        "probe_list is a list without",
    ],
    "names_carry_the_role": ["other_name does not start", "probe_constant does not start", "makes probe_size_mb"],
    "secrets_are_not_logged": ["probe_password sounds like a secret", "probe_token is a secret with a sample"],
    "booleans_are_positive": ["probe_firewall_disable is a switch for 'off'"],
    "numbers_carry_their_unit": ["probe_wait_timeout is a size or a time"],
    "main_is_a_table_of_contents": ["'Work' is more than an import_tasks"],
    "steps_are_short": ["has 18 tasks"],
    "tasks_keep_the_house_rules": ["has become", "has tags", "has notify", "does not wait for the package lock"],
    "facts_come_from_the_plan": ["ansible_facts is empty", "hostvars ties", "groups ties"],
    "neighbours_are_left_alone": ["redis_instances belongs to redis"],
    "shared_inputs_stay_in_the_defaults": ["read bulwark_domain in defaults", "reads bulwark_domain without default"],
    "templates_say_who_made_them": ["does not end in .j2"],
    "a_scenario_tests_it": ["molecule.yml is missing", "has no test_probe.py"],
}


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_finds_its_offence(rule: contract.Rule, bad: contract.Role) -> None:
    found = list(rule(bad))
    for words in EXPECTED[rule.__name__]:
        assert any(words in sentence for sentence in found), found
