"""The house rules that a program can check. Each rule yields sentences that say where and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.parent.parent.name for path in ROOT.glob("roles/*/meta/main.yml"))
REQUIRED = ("README.md", "meta/main.yml", "meta/argument_specs.yml", "defaults/main.yml", "tasks/main.yml")
ALLOWED = re.compile(
    r"README\.md|meta/(main|argument_specs)\.yml|(defaults|vars)/main\.yml|tasks/[a-z0-9_]+\.yml|(templates|files)/.+"
)
# What these two give to every role: the only names of one role that another may use.
GIVEN = re.compile(r"(host_plan|systemd_unit)_\w+")
TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
    "raw": (object,),
}
SECRET = re.compile(r"password|passphrase|secret|token|(^|_)(api|private)_key")
NO_SECRET = re.compile(r"_(path|file|directory|days|seconds|length|enabled|name)$")
NEGATIVE = re.compile(r"(^|_)(disable|disabled|no|not|without|skip)(_|$)")
MEASURED = re.compile(
    r"(^|_)(\w*memory|\w+_size|time|timeout|interval|age|retention|ttl|delay|period|duration|lifetime)(_|$)"
)
UNIT = re.compile(r"_(bytes|kb|mb|gb|percent|ms|seconds|minutes|hours|days|weeks|months)(_|$)")
MANAGED = "Managed by Ansible (bulwark.stack"
IMPORTS = {"name", "ansible.builtin.import_tasks", "ansible.builtin.include_tasks", "when", "vars"}
# The first contact decides as whom the run goes on.
CONNECTION = re.compile(r"ansible_(user|port|become\w*)")


class Loader(yaml.SafeLoader):
    """Reads playbooks as data, whatever tags they carry."""


Loader.add_multi_constructor("!", lambda loader, tag, node: f"{{{{ {tag} }}}}")


def load(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=Loader) if path.exists() else None


def is_literal(value: Any) -> bool:
    return "{{" not in repr(value)


def walk_options(options: dict[str, Any], trail: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every option with those nested in it: trail, name, definition."""
    for name, option in (options or {}).items():
        yield f"{trail}{name}", name, option
        yield from walk_options(option.get("options") or {}, f"{trail}{name}.")


def walk_tasks(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every task, those inside of blocks too; a block itself is none."""
    for task in tasks or []:
        inner = [task[key] for key in ("block", "rescue", "always") if key in task]
        if not inner:
            yield task
        for part in inner:
            yield from walk_tasks(part)


class Role:
    def __init__(self, name: str, root: Path = ROOT) -> None:
        self.name = name
        self.root = root
        self.path = root / "roles" / name

    @cached_property
    def files(self) -> list[Path]:
        return sorted(p for p in self.path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        return load(self.path / "defaults/main.yml") or {}

    @cached_property
    def vars(self) -> dict[str, Any]:
        return load(self.path / "vars/main.yml") or {}

    @cached_property
    def entries(self) -> dict[str, Any]:
        return (load(self.path / "meta/argument_specs.yml") or {}).get("argument_specs") or {}

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options of all entry points."""
        return {
            name: option for entry in self.entries.values() for name, option in (entry.get("options") or {}).items()
        }

    @cached_property
    def steps(self) -> dict[str, list[dict[str, Any]]]:
        return {p.relative_to(self.path).as_posix(): load(p) or [] for p in sorted(self.path.glob("tasks/*.yml"))}

    def texts(self, *folders: str) -> Iterator[tuple[str, int, str]]:
        """Every line of the role's own YAML and templates that is no comment: file, number, text."""
        for path in self.files:
            name = path.relative_to(self.path).as_posix()
            if name.startswith(folders) and path.suffix in (".yml", ".j2"):
                for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                    if not line.lstrip().startswith("#"):
                        yield name, number, line


Rule = Callable[[Role], Iterator[str]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


@rule
def same_places(role: Role) -> Iterator[str]:
    names = [path.relative_to(role.path).as_posix() for path in role.files]
    for name in REQUIRED:
        if name not in names:
            yield f"{name} is missing."
    for name in names:
        if not ALLOWED.fullmatch(name):
            yield f"{name} has no place in a role; see 'Inside every role' in CONTRIBUTING.md."


@rule
def readme_is_short(role: Role) -> Iterator[str]:
    path = role.path / "README.md"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if len(lines) >= 40:
        yield f"README.md has {len(lines)} lines; keep it under 40, the spec is the reference."
    if not any(f"ansible-doc -t role bulwark.stack.{role.name}" in line for line in lines):
        yield f"README.md does not say where the variables are: `ansible-doc -t role bulwark.stack.{role.name}`."


@rule
def meta_is_complete(role: Role) -> Iterator[str]:
    meta = load(role.path / "meta/main.yml") or {}
    for dependency in meta.get("dependencies") or []:
        name = dependency["role"] if isinstance(dependency, dict) else dependency
        if name != "bulwark.stack.host_plan":
            yield f"meta/main.yml depends on {name}; only bulwark.stack.host_plan may be a dependency."
    galaxy = meta.get("galaxy_info") or {}
    for key in ("author", "description", "license", "min_ansible_version", "platforms"):
        if not galaxy.get(key):
            yield f"meta/main.yml: galaxy_info.{key} is missing."


@rule
def spec_and_defaults_name_the_same(role: Role) -> Iterator[str]:
    for name in role.defaults:
        if name not in role.options:
            yield f"defaults/main.yml: {name} is not in meta/argument_specs.yml; describe it, or make it __{name}."
    for name, option in role.options.items():
        if name not in role.defaults and "default" in option:
            yield f"meta/argument_specs.yml has a default for {name}, defaults/main.yml none."
        if name in role.defaults and option.get("required"):
            yield f"meta/argument_specs.yml requires {name}, which has a default; drop one."


@rule
def spec_and_defaults_say_the_same(role: Role) -> Iterator[str]:
    for name, option in role.options.items():
        if "default" not in option or name not in role.defaults:
            continue
        value = role.defaults[name]
        if not is_literal(value):
            yield f"meta/argument_specs.yml has a fixed default for {name}, which is computed; say it in words."
        elif value != option["default"] or type(value) is not type(option["default"]):
            yield f"{name} is {value!r} in defaults/main.yml and {option['default']!r} in meta/argument_specs.yml."


@rule
def defaults_have_the_type_of_the_spec(role: Role) -> Iterator[str]:
    for name, option in role.options.items():
        value = role.defaults.get(name)
        # A whole expression may give any type.
        if value is None or (isinstance(value, str) and "{{" in value):
            continue
        wanted = TYPES[option.get("type", "raw")]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted and object not in wanted):
            yield f"defaults/main.yml: {name} is {value!r}, which is no {option['type']}."


@rule
def options_are_described(role: Role) -> Iterator[str]:
    for entry, spec in role.entries.items():
        for key in ("short_description", "description"):
            if not spec.get(key):
                yield f"meta/argument_specs.yml: the entry point {entry} has no {key}."
        for trail, _name, option in walk_options(spec.get("options") or {}):
            if option.get("type") not in TYPES:
                yield f"meta/argument_specs.yml: {trail} has no type."
            if not option.get("description"):
                yield f"meta/argument_specs.yml: {trail} has no description."
            if option.get("type") == "list" and not option.get("elements"):
                yield f"meta/argument_specs.yml: {trail} is a list without elements."


@rule
def names_carry_the_role(role: Role) -> Iterator[str]:
    public, private = f"{role.name}_", f"__{role.name}_"
    for name in [*role.options, *role.defaults]:
        if not name.startswith(public):
            yield f"{name} does not start with {public}."
    for name in role.vars:
        if not name.startswith(private):
            yield f"vars/main.yml: {name} does not start with {private}."
    for step, tasks in role.steps.items():
        for task in walk_tasks(tasks):
            for name in made_names(task):
                if not name.startswith(private) and not GIVEN.fullmatch(name) and not CONNECTION.fullmatch(name):
                    yield f"{step}: '{task.get('name')}' makes {name}; start it with {private}."


def made_names(task: dict[str, Any]) -> list[str]:
    """The variables that a task leaves behind."""
    facts = task.get("ansible.builtin.set_fact") or {}
    names = [name for name in facts if name != "cacheable"] if isinstance(facts, dict) else []
    register = task.get("register")
    loop = (task.get("loop_control") or {}).get("loop_var")
    return [*names, *filter(None, (register, loop))]


@rule
def secrets_are_not_logged(role: Role) -> Iterator[str]:
    for trail, name, option in walk_options(role.options):
        secret = SECRET.search(name) and not NO_SECRET.search(name) and option.get("type") not in ("bool", "int")
        if secret and option.get("no_log") is not True:
            yield f"meta/argument_specs.yml: {trail} sounds like a secret; give it no_log: true."
        default = role.defaults.get(trail)
        if option.get("no_log") and isinstance(default, str) and default and "{{" not in default:
            yield f"defaults/main.yml: {trail} is a secret with a sample value; leave it empty or make it required."


@rule
def booleans_are_positive(role: Role) -> Iterator[str]:
    for trail, name, option in walk_options(role.options):
        if option.get("type") == "bool" and NEGATIVE.search(name):
            yield f"meta/argument_specs.yml: {trail} is a switch for 'off'; turn it round, like {role.name}_x_enabled."


@rule
def numbers_carry_their_unit(role: Role) -> Iterator[str]:
    for trail, name, option in walk_options(role.options):
        if option.get("type") in ("int", "float") and MEASURED.search(name) and not UNIT.search(name):
            yield f"meta/argument_specs.yml: {trail} is a size or a time; end it with its unit (_mb, _seconds)."


@rule
def main_is_a_table_of_contents(role: Role) -> Iterator[str]:
    for task in role.steps.get("tasks/main.yml", []):
        # base_hardening plans the host itself, because its first contact comes before there is a host to plan.
        plan = (task.get("ansible.builtin.import_role") or {}).get("name") == "bulwark.stack.host_plan"
        if not plan and (not set(task) <= IMPORTS or not any(key.endswith("_tasks") for key in task)):
            yield f"tasks/main.yml: '{task.get('name')}' is more than an import_tasks; move it to a step of its own."


@rule
def steps_are_short(role: Role) -> Iterator[str]:
    for step, tasks in role.steps.items():
        count = len(list(walk_tasks(tasks)))
        lines = len((role.path / step).read_text(encoding="utf-8").splitlines())
        if count > 15 or lines > 100:
            yield f"{step} has {count} tasks and {lines} lines; above 15 and 100 a subject is missing, so split it."


@rule
def tasks_keep_the_house_rules(role: Role) -> Iterator[str]:
    for step, tasks in role.steps.items():
        for task in walk_tasks(tasks):
            name = task.get("name")
            for key, why in (
                ("become", "the play decides who runs a role"),
                ("tags", "a role has one tag, in site.yml"),
                ("notify", "restarts are decided by state; use restart_on of systemd_unit"),
            ):
                # To do less than the play allows is fine.
                if task.get(key):
                    yield f"{step}: '{name}' has {key}: {why}."
            if "ansible.builtin.apt" in task and "lock_timeout" not in task["ansible.builtin.apt"]:
                yield f"{step}: '{name}' does not wait for the package lock; use bulwark.stack.packages."


@rule
def facts_come_from_the_plan(role: Role) -> Iterator[str]:
    banned = {
        r"\bansible_facts\b": "ansible_facts is empty, because no play gathers facts; use host_plan_host",
        r"\bhostvars\b": "hostvars ties the role to an inventory; make the value an input",
        r"(?<![.\w])groups\s*[\[.|]": "groups ties the role to an inventory; make the list of hosts an input",
    }
    for name, number, line in role.texts("tasks/", "templates/", "defaults/", "vars/"):
        for pattern, why in banned.items():
            if re.search(pattern, line):
                yield f"{name}:{number}: {why}."
        if "group_names" in line and not name.startswith("defaults/"):
            yield f"{name}:{number}: group_names decides in defaults only, where a user can decide otherwise."


@rule
def neighbours_are_left_alone(role: Role) -> Iterator[str]:
    foreign = {
        name: other for other in ROLES if other != role.name for name in all_names(other) if not GIVEN.fullmatch(name)
    }
    for file, number, line in role.texts("tasks/", "templates/", "defaults/", "vars/"):
        for name in re.findall(r"\b\w+\b", line):
            if name in foreign:
                yield f"{file}:{number}: {name} belongs to {foreign[name]}; make it an input that site.yml hands over."


def all_names(name: str) -> set[str]:
    role = Role(name)
    return {*role.options, *role.defaults, *role.vars}


@rule
def shared_inputs_stay_in_the_defaults(role: Role) -> Iterator[str]:
    for file, number, line in role.texts("tasks/", "templates/", "vars/"):
        if found := re.search(r"(?<![/\w])bulwark_[a-z]\w*", line):
            yield f"{file}:{number}: read {found[0]} in defaults/main.yml only, with a value for a single host."
    for name, value in role.defaults.items():
        for shared in re.findall(r"\bbulwark_[a-z]\w*", repr(value)):
            if not re.search(rf"{shared}\b[^}}]*default\(|{shared} is defined", repr(value)):
                yield f"defaults/main.yml: {name} reads {shared} without default(…), so the role does not work alone."


@rule
def templates_say_who_made_them(role: Role) -> Iterator[str]:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in role.path.glob("templates/**/*.j2"))
    included = re.findall(r"(?:include|import|from) ['\"]([^'\"]+)['\"]", texts)
    for path in role.path.glob("templates/**/*"):
        name = path.relative_to(role.path).as_posix()
        if path.is_dir():
            continue
        if path.suffix != ".j2":
            yield f"{name} does not end in .j2."
        # JSON has no comments, and a part of another template no first line.
        if name.endswith(".json.j2") or path.name in included:
            continue
        if MANAGED not in "\n".join(path.read_text(encoding="utf-8").splitlines()[:3]):
            yield f"{name} does not begin with '{MANAGED}.{role.name}).'."
        if "default(" in path.read_text(encoding="utf-8"):
            yield f"{name} decides a default; templates only print, so complete the data in the filter plugin."


@rule
def a_scenario_tests_it(role: Role) -> Iterator[str]:
    if not (role.root / f"molecule/{role.name}/molecule.yml").exists():
        yield f"molecule/{role.name}/molecule.yml is missing; it may be empty, but every role is tested on real hosts."
    if not list(role.root.glob(f"molecule/{role.name}/tests/test_*.py")):
        yield f"molecule/{role.name}/tests has no test_{role.name}.py."


@pytest.mark.parametrize("name", ROLES)
@pytest.mark.parametrize("check", RULES, ids=lambda one: one.__name__)
def test_role(name: str, check: Rule) -> None:
    problems = [f"roles/{name}: {problem}" for problem in check(Role(name))]
    assert not problems, "\n" + "\n".join(problems)


def test_every_called_entry_point_has_a_spec() -> None:
    problems = []
    for path in sorted([*ROOT.glob("playbooks/*.yml"), *ROOT.glob("molecule/*/*.yml")]):
        plays = load(path) or []
        for play in plays if isinstance(plays, list) else []:
            tasks = [task for key in ("pre_tasks", "tasks", "post_tasks") for task in walk_tasks(play.get(key) or [])]
            calls = [task.get(f"ansible.builtin.{verb}_role") for task in tasks for verb in ("include", "import")]
            for call in filter(None, calls):
                name, entry = call["name"].removeprefix("bulwark.stack."), call.get("tasks_from", "main")
                if name in ROLES and entry.removesuffix(".yml") not in Role(name).entries:
                    problems.append(
                        f"{path.relative_to(ROOT)} calls {name}/{entry}; roles/{name}/meta/argument_specs.yml lacks it."
                    )
    assert not problems, "\n" + "\n".join(problems)


def test_shared_variables_are_documented() -> None:
    table = set(
        re.findall(r"^\| `(bulwark_\w+)`", (ROOT / "docs/variables.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    paths = [*ROOT.glob("roles/*/defaults/main.yml"), *ROOT.glob("playbooks/*.yml")]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    read = set(re.findall(r"\bbulwark_[a-z]\w*", texts))
    assert not read - table, f"docs/variables.md lacks a line for {sorted(read - table)}."
    assert not table - read, f"docs/variables.md lists {sorted(table - read)}, which nothing reads."


PLUGINS = sorted(
    path.relative_to(ROOT / "plugins")
    for path in ROOT.glob("plugins/**/*.py")
    if path.name != "__init__.py" and path.parent.name != "doc_fragments"
)


@pytest.mark.parametrize("path", PLUGINS, ids=str)
def test_every_plugin_has_unit_tests(path: Path) -> None:
    """A module with an action plugin of its name is tested by either."""
    kinds = {path.parent.as_posix()} | ({"modules", "action"} if path.parent.name in ("modules", "action") else set())
    wanted = [ROOT / "tests/unit/plugins" / kind / f"test_{path.stem.lstrip('_')}.py" for kind in sorted(kinds)]
    assert any(test.exists() for test in wanted), f"plugins/{path} has no {wanted[0].relative_to(ROOT)}."


@pytest.mark.parametrize("path", [p for p in PLUGINS if p.parent.name == "modules"], ids=str)
def test_every_module_states_its_attributes(path: Path) -> None:
    text = (ROOT / "plugins" / path).read_text(encoding="utf-8")
    found = "bulwark.stack._attributes" in text or re.search(r"^attributes:", text, re.MULTILINE)
    assert found, f"plugins/{path} does not say how it behaves in check mode; extend bulwark.stack._attributes."


@pytest.mark.parametrize("path", PLUGINS, ids=str)
def test_every_plugin_has_the_licence_header(path: Path) -> None:
    head = (ROOT / "plugins" / path).read_text(encoding="utf-8")[:400]
    assert "GNU General Public License v3.0+" in head, f"plugins/{path} lacks the two comment lines with the licence."


def test_action_groups_name_modules_that_exist() -> None:
    groups = (load(ROOT / "meta/runtime.yml") or {}).get("action_groups") or {}
    modules = {path.stem for path in PLUGINS if path.parent.name == "modules"}
    for group, names in groups.items():
        missing = [name for name in names if isinstance(name, str) and name not in modules]
        assert not missing, f"meta/runtime.yml: the group {group} names {missing}, which are no modules of ours."


@pytest.mark.parametrize("path", sorted(ROOT.glob("playbooks/*.yml")), ids=lambda path: path.name)
def test_playbooks_can_be_called_by_their_full_name(path: Path) -> None:
    assert re.fullmatch(r"[a-z0-9_]+\.yml", path.name), (
        f"{path.name}: a hyphen keeps it from running as bulwark.stack.{path.stem}."
    )
