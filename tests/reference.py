#!/usr/bin/env python3
"""Writes docs/reference: one page per role from its spec and defaults, one per module and inventory plugin from its
documentation.

    tests/reference.py [--check]

With --check nothing is written; the exit status is 1 when a page differs from what would be written.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs/reference"
NOTE = "<!-- Made by `make docs`; change the spec instead. -->"


def markdown(text: Any) -> str:
    """Ansible's markup as Markdown; lists become one paragraph."""
    joined = " ".join(text) if isinstance(text, list) else str(text)
    joined = re.sub(r"[CVOM]\(((?:[^()]|\([^()]*\))*)\)", r"`\1`", joined)
    joined = re.sub(r"L\(([^,()]+),\s*([^()]+)\)", r"[\1](\2)", joined)
    joined = re.sub(r"U\(([^()]+)\)", r"<\1>", joined)
    joined = re.sub(r"[BI]\(([^()]+)\)", r"*\1*", joined)
    return " ".join(joined.split())


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def kind(option: dict[str, Any]) -> str:
    name = option.get("type", "str")
    return f"list of {option['elements']}" if name == "list" and "elements" in option else name


def value(option: dict[str, Any], defaults: dict[str, Any] | None, name: str) -> str:
    """The column 'default': a value, 'required', 'computed', or nothing."""
    if option.get("required"):
        return "required"
    found = option.get("default", (defaults or {}).get(name))
    if found is None:
        return ""
    text = json.dumps(found, ensure_ascii=False)
    if "{{" in text:
        return "computed"
    return f"`{text}`" if len(text) <= 60 or defaults is None else "see defaults/main.yml"


def rows(options: dict[str, Any], nested: str, defaults: dict[str, Any] | None, trail: str = "") -> list[str]:
    lines = []
    for name, option in options.items():
        about = markdown(option.get("description", ""))
        if option.get("choices"):
            about += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        lines.append(f"| `{trail}{name}` | {kind(option)} | {cell(value(option, defaults, name))} | {cell(about)} |")
        inner = option.get(nested) or {}
        mark = "[]." if option.get("type") == "list" else "."
        lines += rows(inner, nested, None, f"{trail}{name}{mark}")
    return lines


def table(options: dict[str, Any], nested: str, defaults: dict[str, Any] | None = None) -> list[str]:
    if not options:
        return ["It has no options."]
    return ["| name | type | default | what it does |", "|---|---|---|---|", *rows(options, nested, defaults)]


def role_page(name: str) -> str:
    spec = yaml.safe_load((ROOT / f"roles/{name}/meta/argument_specs.yml").read_text(encoding="utf-8"))[
        "argument_specs"
    ]
    defaults = yaml.safe_load((ROOT / f"roles/{name}/defaults/main.yml").read_text(encoding="utf-8")) or {}
    lines = [NOTE, f"# Role {name}", ""]
    for entry, about in sorted(spec.items(), key=lambda item: (item[0] != "main", item[0])):
        if entry != "main":
            lines += [f"## Entry point {entry}", "", f"`tasks_from: {entry}`", ""]
        lines += [markdown(about["short_description"]) + ".", "", markdown(about["description"]), ""]
        lines += [*table(about.get("options") or {}, "options", defaults), ""]
    return "\n".join(lines).rstrip() + "\n"


def documentation(path: Path) -> dict[str, str]:
    """The text blocks of a module, without running it."""
    found = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found[getattr(node.targets[0], "id", "")] = str(node.value.value)
    return found


def returns(about: dict[str, Any]) -> list[str]:
    lines = ["## Returned", "", "| name | type | what it is |", "|---|---|---|"]
    return lines + [f"| `{name}` | {kind(one)} | {cell(markdown(one['description']))} |" for name, one in about.items()]


def fragments(about: dict[str, Any]) -> dict[str, Any]:
    """The options of the collection's own documentation fragments that an inventory plugin is extended with."""
    found: dict[str, Any] = {}
    for name in about["extends_documentation_fragment"]:
        file, _, part = name.removeprefix("bulwark.stack.").partition(".")
        path = ROOT / f"plugins/doc_fragments/{file}.py"
        if path.exists():
            found |= yaml.safe_load(documentation(path)[part.upper() or "DOCUMENTATION"])["options"]
    return found


def inventory_page(path: Path) -> str:
    text = documentation(path)
    about = yaml.safe_load(text["DOCUMENTATION"])
    options = {**about["options"], **fragments(about)}
    lines = [NOTE, f"# Inventory plugin {about['name']}", "", markdown(about["short_description"]) + ".", ""]
    lines += [markdown(about["description"]), "", "## Options", ""]
    lines += ["Beside these it has those of Ansible for constructed inventories and for the cache of inventories.", ""]
    lines += [*table(options, "suboptions"), "", "## Example", "", "```yaml", text["EXAMPLES"].strip(), "```"]
    return "\n".join(lines) + "\n"


def module_page(path: Path) -> str:
    text = documentation(path)
    about = yaml.safe_load(text["DOCUMENTATION"])
    lines = [NOTE, f"# Module {about['module']}", "", markdown(about["short_description"]) + ".", ""]
    lines += [
        markdown(about["description"]),
        "",
        "## Options",
        "",
        *table(about.get("options") or {}, "suboptions"),
        "",
    ]
    lines += ["## Example", "", "```yaml", text["EXAMPLES"].strip(), "```", ""]
    returned = yaml.safe_load(text.get("RETURN", "")) or {}
    return "\n".join([*lines, *(returns(returned) if returned else [])]).rstrip() + "\n"


def hardening_page() -> str:
    """The table of hardening rules, from the very table that the role works by."""
    sys.path.insert(0, str(ROOT))
    table_of = importlib.import_module("plugins.plugin_utils.hardening_rules")
    lines = [NOTE, "# Hardening rules", ""]
    lines += [
        "What each rule of `base_hardening` sets, and why; [hardening.md](../hardening.md) says how to use them.",
        "",
    ]
    for profile in table_of.PROFILES:
        lines += [f"## {profile}", "", "| rule | CIS | why | what it sets |", "|---|---|---|---|"]
        for rule in (one for one in table_of.RULES if one.profile == profile):
            parts = [
                ("SSH", rule.ssh),
                ("kernel", rule.sysctls),
                ("modules", rule.modules),
                ("files", list(dict.fromkeys(entry["path"] for entry in rule.files))),
                ("packages", rule.packages),
                ("removed", rule.unwanted),
            ]
            sets = "; ".join(f"{kind}: " + ", ".join(f"`{name}`" for name in names) for kind, names in parts if names)
            lines.append(f"| `{rule.name}` | {rule.cis} | {cell(rule.why)} | {cell(sets)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def summary(page: str) -> str:
    """The first sentence below the title."""
    return page.split("\n\n")[1].strip().rstrip(".")


def pages() -> dict[str, str]:
    """Path below docs/reference to text."""
    done = {}
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        name = path.parent.parent.name
        done[f"roles/{name}.md"] = role_page(name)
    for path in sorted(ROOT.glob("plugins/modules/*.py")):
        if path.name != "__init__.py":
            done[f"modules/{path.stem}.md"] = module_page(path)
    for path in sorted(ROOT.glob("plugins/inventory/*.py")):
        done[f"inventory/{path.stem}.md"] = inventory_page(path)
    index = [NOTE, "# Reference", ""]
    for folder in ("roles", "modules", "inventory"):
        index += [f"## {folder.capitalize()}", ""]
        index += [f"- [{Path(n).stem}]({n}): {summary(text)}" for n, text in done.items() if n.startswith(folder)]
        index.append("")
    done["hardening.md"] = hardening_page()
    index += ["## Hardening", "", "- [rules](hardening.md): each with its CIS number, its reason and what it sets"]
    done["README.md"] = "\n".join(index).rstrip() + "\n"
    return done


def main() -> int:
    wanted = pages()
    there = {path.relative_to(TARGET).as_posix(): path for path in TARGET.rglob("*.md")}
    stale = [
        name for name, text in wanted.items() if name not in there or there[name].read_text(encoding="utf-8") != text
    ]
    stray = sorted(set(there) - set(wanted))
    if "--check" in sys.argv[1:]:
        for name in [*stale, *stray]:
            print(f"docs/reference/{name} is not what the specs say; run 'make docs' and commit the result.")
        return 1 if stale or stray else 0
    for name in stale:
        (TARGET / name).parent.mkdir(parents=True, exist_ok=True)
        (TARGET / name).write_text(wanted[name], encoding="utf-8")
    for name in stray:
        there[name].unlink()
    print(f"docs/reference: {len(wanted)} pages, {len(stale)} written, {len(stray)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
