"""What docs/backups.md and docs/runbooks.md tell people to type is what the programs understand."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from plugins.module_utils._backup import cli, kinds, settings
from plugins.plugin_utils.backups import TEXTS

ROOT = Path(__file__).resolve().parents[2]
BACKUPS, RUNBOOKS = (ROOT / "docs" / name for name in ("backups.md", "runbooks.md"))
TEXT = {path.name: path.read_text(encoding="utf-8") for path in (BACKUPS, RUNBOOKS)}
BOTH = "\n".join(TEXT.values())
# A job of the examples -> its kind.
EXAMPLES = {"postgres": "postgres", "shop": "postgres", "media": "files", "broker": "redis"}


def commands(program: str) -> list[str]:
    """What follows the name of a program, in blocks of shell and between backticks."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", BOTH, re.DOTALL)).replace("\\\n", " ").splitlines()
    lines = [line.partition(" # ")[0] for line in blocks]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", BOTH, flags=re.DOTALL))
    return [
        line.split(f"{program} ", 1)[1] for line in lines + inline if re.match(rf"(ansible-playbook )?{program} ", line)
    ]


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    below = TEXT["backups.md"].split(f"\n## {heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


def dictionaries(pattern: str) -> Iterator[dict]:
    for text in re.findall(pattern, BOTH):
        yield yaml.safe_load(text.replace(", …", "").replace("…", "x"))


@pytest.mark.parametrize("words", sorted(set(commands("bulwark-backup")) - {"--help"}))
def test_commands_of_the_agent_are_understood(words):
    parsed = cli.parser().parse_args(shlex.split(words.replace("JOB", "shop")))
    for word in getattr(parsed, "to", []):
        module = importlib.import_module(f"plugins.module_utils._backup.{kinds.KINDS[EXAMPLES[parsed.job]]}")
        assert word.partition("=")[0] in module.RESTORE


def test_playbooks_are_there():
    named = set(re.findall(r"playbooks/(\w+\.yml)", BOTH)) | set(re.findall(r"`(\w+\.yml)`", TEXT["runbooks.md"]))
    assert named
    assert not {name for name in named - {"key.yml", "NAME.yml"} if not (ROOT / "playbooks" / name).exists()}


def test_variables_are_there():
    spec = yaml.safe_load((ROOT / "roles/backups/meta/argument_specs.yml").read_text(encoding="utf-8"))
    known = {name for entry in spec["argument_specs"].values() for name in entry.get("options", {})}
    assert not set(re.findall(r"\bbackups_[a-z_]+", BOTH)) - known
    playbooks = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "playbooks").glob("*.yml"))
    assert not {
        name for name in re.findall(r"\brestore_[a-z_]+\b(?!\.yml)", TEXT["runbooks.md"]) if name not in playbooks
    }


def test_every_kind_has_its_row_with_its_targets():
    rows = {row[0].strip("`"): row for row in table("Jobs")}
    assert set(rows) == set(kinds.KINDS)
    for name, row in rows.items():
        module = importlib.import_module(f"plugins.module_utils._backup.{kinds.KINDS[name]}")
        assert set(re.findall(r"`(\w+)`", row[4])) - {*kinds.KINDS, "restore_command"} <= set(module.RESTORE), name


def test_every_provider_has_its_row():
    text = "\n".join(row[0] for row in table("Choose a store"))
    assert set(re.findall(r"provider: (\w+)", text)) == set(settings.ENDPOINTS)
    assert set(re.findall(r"kind: (\w+)", text)) == set(settings.STORE_KINDS)


def test_stores_of_the_examples_are_valid():
    found = list(dictionaries(r"\{kind: (?:s3|b2|sftp|local).*?\}(?=`|\n)"))
    assert len(found) > 8
    for one in found:
        plain = {key: value for key, value in one.items() if key not in TEXTS}
        settings.from_dict(settings.StoreSettings, plain, "backups_store")


def test_jobs_of_the_examples_are_valid():
    found = list(dictionaries(r"(?m)^  - (\{name: .*\})"))
    assert len(found) >= 4
    for one in found:
        job = settings.from_dict(settings.Job, {"kind": "postgres", **one}, "backups_jobs")
        kinds.kind_of(job)


def test_links_lead_somewhere():
    for name, text in TEXT.items():
        for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", text):
            assert target.startswith("https://") or not target or (ROOT / "docs" / target).exists(), f"{name}: {target}"


def test_every_runbook_has_the_same_headings():
    chapters = TEXT["runbooks.md"].split("\n## ")[1:]
    for chapter in chapters:
        words = re.findall(r"^\*\*(.+?)\.\*\*", chapter, re.MULTILINE)
        assert words == ["When", "Before", "Command", "It prints", "Way back"], chapter.splitlines()[0]
    told = set(re.findall(r"playbooks/(\w+\.yml)", TEXT["runbooks.md"]))
    assert told >= {path.name for path in (ROOT / "playbooks").glob("*.yml")} - {"site.yml", "restore_job.yml"}
