#!/usr/bin/python
# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Place many files, directories and links in one round trip
description:
  - Brings a list of files, directories and links to the state that is asked for, in the order given.
  - Templates are rendered on the controller, so that a role costs one round trip however many files it has.
  - When O(validate) fails, every file and link that this call changed is put back, with its old time stamps, before the
    module fails. Directories that were made or removed stay so.
  - A link in the place of a file is replaced; without any source the file that it points at gets its owner and mode.
author: [the bulwark.stack maintainers (@bulwark)]
extends_documentation_fragment: [bulwark.stack._attributes]
options:
  files:
    description: What to place.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path on the host.
        type: path
        required: true
      state:
        description: V(absent) removes a file, a link or a whole directory.
        type: str
        choices: [file, directory, link, absent]
        default: file
      template:
        description: A template in the role's C(templates/); rendered on the controller.
        type: str
      vars:
        description: Variables for this template alone.
        type: dict
      src:
        description: A text file in the role's C(files/).
        type: str
      content:
        description: The text itself. Without any source an existing file only gets its owner and mode.
        type: str
      secret_content:
        description: Text that no log and no diff may show. Set by O(files[].secret).
        type: str
      secret:
        description: Keep the content out of logs and diffs.
        type: bool
        default: false
      target:
        description: What a link points at.
        type: path
      owner:
        description: Name of the owner.
        type: str
        default: root
      group:
        description: Name of the group.
        type: str
        default: root
      mode:
        description: Octal mode in quotes; V(0644) for files and V(0755) for directories unless given.
        type: raw
      create_only:
        description: Leave a file that exists as it is.
        type: bool
        default: false
      lines:
        description: Single lines of a file that somebody else owns, in place of a source.
        type: list
        elements: dict
        suboptions:
          match:
            description: Pattern of the beginning of a line. The first that matches becomes the new line, others go.
            type: str
            required: true
          line:
            description: The new line. O(files[].lines[].match) has to match it too.
            type: str
            required: true
          add:
            description: Whether a line that is not there is added at the end.
            type: bool
            default: true
      optional:
        description: Leave a path alone where nothing is.
        type: bool
        default: false
      validate:
        description: A command that checks the new text before it replaces the old; V(%s) is the new file.
        type: str
  purge:
    description: Directories that may hold only what O(files) names; other files and links in them are removed.
    type: list
    elements: path
    default: []
  validate:
    description: Commands that check the whole set once it is in place.
    type: list
    elements: str
    default: []
  guard_seconds:
    description:
      - Keep how each path was before its first change.
      - A change of what decides who comes in is put back after so many seconds, unless M(bulwark.stack.guard)
        has confirmed it by then. V(0) keeps nothing.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Configure nginx
  bulwark.stack.files:
    files:
      - {path: /etc/nginx/sites-enabled, state: directory}
      - {path: /etc/nginx/nginx.conf, template: nginx.conf.j2}
      - {path: /etc/nginx/htpasswd, content: "{{ users }}", group: www-data, mode: "0640", secret: true}
    purge: [/etc/nginx/sites-enabled]
    validate: [nginx -t]
"""

RETURN = r"""
changed_paths:
  description: The paths that differed.
  returned: always
  type: list
  elements: str
armed: {description: Whether the change waits for its confirmation., returned: always, type: bool}
"""

import difflib
import grp
import os
import pwd
import re
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._guard import Guard

SPEC = {
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
            "template": {"type": "str"},
            "vars": {"type": "dict"},
            "src": {"type": "str"},
            "content": {"type": "str"},
            "secret_content": {"type": "str", "no_log": True},
            "secret": {"type": "bool", "default": False, "no_log": False},
            "target": {"type": "path"},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "raw"},
            "create_only": {"type": "bool", "default": False},
            "lines": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "match": {"type": "str", "required": True},
                    "line": {"type": "str", "required": True},
                    "add": {"type": "bool", "default": True},
                },
            },
            "optional": {"type": "bool", "default": False},
            "validate": {"type": "str"},
        },
    },
    "purge": {"type": "list", "elements": "path", "default": []},
    "validate": {"type": "list", "elements": "str", "default": []},
    "guard_seconds": {"type": "int", "default": 0},
}
DEFAULT_MODES = {"file": 0o644, "directory": 0o755}


def edited(text: str, edits: list[dict[str, Any]]) -> str:
    """The text with these lines; one that matches stands once, where the first of them stood."""
    lines = text.splitlines()
    for edit in edits:
        hits = [number for number, line in enumerate(lines) if re.match(edit["match"], line)]
        if hits:
            lines[hits[0]] = edit["line"]
            lines = [line for number, line in enumerate(lines) if number not in hits[1:]]
        elif edit["add"]:
            lines.append(edit["line"])
    return "\n".join(lines) + "\n"


class Placer:
    """Places entries one by one and remembers enough to take each step back."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.guard = Guard(module, module.params["guard_seconds"])
        self.changed: list[str] = []
        self.diffs: list[dict[str, str]] = []
        self.undo: list[tuple[str, bytes | str | None, os.stat_result | None]] = []
        texts = [entry["secret_content"] or "" for entry in module.params["files"]]
        self.secret_words = {word for text in texts for word in re.split(r"[\s=:,;\"'@/]+", text) if len(word) > 5}

    def said(self, out: str, err: str) -> str:
        """What a checking program printed, without the words of secrets: it may quote the line that it refuses."""
        text = (err or out).strip()
        for word in sorted(self.secret_words, key=len, reverse=True):
            text = text.replace(word, "********")
        return text

    def fail(self, message: str) -> None:
        self.roll_back()
        self.guard.take_back()
        self.module.fail_json(msg=message, changed_paths=[], changed=False)

    def roll_back(self) -> None:
        for path, before, info in reversed(self.undo):
            if before is None or info is None:
                if os.path.lexists(path):
                    os.unlink(path)
            elif isinstance(before, str):
                self.link(path, before)
                os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)
            else:
                self.write(path, before, info.st_uid, info.st_gid, info.st_mode & 0o7777)
                # A unit that was up before the failed attempt is not to restart because of it.
                os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
        self.undo = []

    def remember(self, path: str) -> None:
        """Keeps what is at the path: the text of a file, the target of a link, or that nothing is there."""
        self.guard.before(path)
        before: bytes | str | None = None
        info = os.lstat(path) if os.path.lexists(path) else None
        if os.path.islink(path):
            before = os.readlink(path)
        elif os.path.isfile(path):
            with open(path, "rb") as handle:
                before = handle.read()
        self.undo.append((path, before, info))

    def place(self, entry: dict[str, Any]) -> None:
        for option in ("template", "src"):
            if entry[option] is not None:
                self.fail(f"{entry['path']}: {option} is rendered by the action plugin; call bulwark.stack.files.")
        if entry["optional"] and not os.path.exists(entry["path"]):
            return
        getattr(self, "place_" + entry["state"])(entry)

    def note(self, path: str, before: str, after: str) -> None:
        if path not in self.changed:
            self.changed.append(path)
        self.diffs.append({"before_header": path, "after_header": path, "before": before, "after": after})

    def place_absent(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        if not os.path.lexists(path):
            return
        self.note(path, "present\n", "absent\n")
        if self.module.check_mode:
            return
        if os.path.isdir(path) and not os.path.islink(path):
            self.guard.before_tree(path)
            shutil.rmtree(path)
            return
        self.remember(path)
        os.unlink(path)

    def place_link(self, entry: dict[str, Any]) -> None:
        path, target = entry["path"], entry["target"]
        if not target:
            self.fail(f"{path}: a link needs a target.")
        now = os.readlink(path) if os.path.islink(path) else None
        if now == target:
            return
        if os.path.isdir(path) and not os.path.islink(path):
            self.fail(f"{path} is a directory, so it cannot become a link to {target}; move it away first.")
        self.note(path, f"-> {now}\n", f"-> {target}\n")
        if not self.module.check_mode:
            self.remember(path)
            self.link(path, target)

    def link(self, path: str, target: str) -> None:
        temporary = f"{path}.bulwark-new"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, path)

    def place_directory(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        if not os.path.isdir(path):
            if os.path.lexists(path):
                self.fail(f"{path} exists and is not a directory; move it away first.")
            self.note(path, "absent\n", "directory\n")
            if self.module.check_mode:
                return
            self.guard.before(path)
            os.makedirs(path)
        self.attributes(entry)

    def place_file(self, entry: dict[str, Any]) -> None:
        path, secret = entry["path"], entry["secret_content"] is not None
        text = entry["secret_content"] if secret else entry["content"]
        exists, link = os.path.lexists(path), os.path.islink(path)
        if os.path.isdir(path) and not link:
            self.fail(f"{path} is a directory, not a file; move it away first.")
        if exists and entry["lines"]:
            with open(path, encoding="utf-8", errors="surrogateescape") as handle:
                text = edited(handle.read(), entry["lines"])
        if exists and (entry["create_only"] or text is None):
            self.attributes(entry)
            return
        if text is None:
            # On a new host, check mode sees a package's own files missing.
            if not self.module.check_mode:
                self.fail(f"{path} does not exist and the task has no content for it.")
            self.note(path, "absent\n", "file\n")
            return
        after = text.encode(errors="surrogateescape")
        before = None
        if os.path.isfile(path):
            with open(path, "rb") as handle:
                before = handle.read()
        if before == after and not link:
            self.attributes(entry)
            return
        if secret:
            self.note(path, "(hidden: secret)\n", "(hidden: secret, changed)\n")
        else:
            self.note(path, (before or b"").decode(errors="replace"), text)
        uid, gid = self.ids(entry)
        mode = self.mode(entry)
        if self.module.check_mode:
            return
        if not os.path.isdir(os.path.dirname(path)):
            self.fail(f"{path}: its directory does not exist; list the directory before the file.")
        self.remember(path)
        self.write(path, after, uid, gid, mode, entry["validate"])

    def write(self, path: str, data: bytes, uid: int, gid: int, mode: int, validate: str | None = None) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=".bulwark-", dir=os.path.dirname(path))
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            os.chown(temporary, uid, gid)
            os.chmod(temporary, mode)
            if validate:
                if "%s" not in validate:
                    self.fail(f"{path}: validate '{validate}' has no %s, so it would check the old text.")
                rc, out, err = self.module.run_command(validate.replace("%s", temporary))
                if rc:
                    self.fail(f"{path} was not replaced: '{validate}' refused the new text: {self.said(out, err)}")
            os.replace(temporary, path)
        finally:
            if os.path.lexists(temporary):
                os.unlink(temporary)

    def attributes(self, entry: dict[str, Any]) -> None:
        path = entry["path"]
        if not os.path.exists(path):
            self.fail(f"{path} is a link to {os.readlink(path)}, where nothing is.")
        info = os.stat(path)
        uid, gid = self.ids(entry)
        mode = self.mode(entry)
        now = (info.st_uid, info.st_gid, info.st_mode & 0o7777)
        if now == (uid, gid, mode):
            return
        self.note(path, "uid %d gid %d mode %04o\n" % now, "uid %d gid %d mode %04o\n" % (uid, gid, mode))
        if not self.module.check_mode:
            # Rolling back needs no step for this: what was asked for stays right when the set of texts is refused.
            self.guard.before(path)
            os.chown(path, uid, gid)
            os.chmod(path, mode)

    def mode(self, entry: dict[str, Any]) -> int:
        if entry["mode"] is None:
            return DEFAULT_MODES[entry["state"]]
        # An unquoted 0640 arrives as the number 416, which would be read as a quite different mode.
        if not isinstance(entry["mode"], str) or not re.fullmatch(r"0?[0-7]{3,4}", entry["mode"]):
            self.fail(f"{entry['path']}: mode '{entry['mode']}' is not octal in quotes; write it like \"0640\".")
        return int(entry["mode"], 8)

    def ids(self, entry: dict[str, Any]) -> tuple[int, int]:
        """The numeric owner and group; -1 in check mode for an account that the same run would create."""
        found = []
        for kind, name, lookup in (
            ("owner", entry["owner"], lambda n: pwd.getpwnam(n).pw_uid),
            ("group", entry["group"], lambda n: grp.getgrnam(n).gr_gid),
        ):
            try:
                found.append(lookup(name))
            except KeyError:
                if not self.module.check_mode:
                    self.fail(f"{entry['path']}: the {kind} '{name}' does not exist on this host.")
                found.append(-1)
        return found[0], found[1]

    def purge(self, directory: str, wanted: set[str]) -> None:
        if not os.path.isdir(directory):
            return
        for name in sorted(os.listdir(directory)):
            path = os.path.normpath(os.path.join(directory, name))
            if path not in wanted and (os.path.islink(path) or os.path.isfile(path)):
                self.place_absent({"path": path})


def shorten(diffs: list[dict[str, str]]) -> list[dict[str, str]]:
    """Large files are shown by their changed lines only: a diff of 2,000 equal lines helps nobody."""
    for diff in diffs:
        if len(diff["before"]) + len(diff["after"]) > 100_000:
            lines = difflib.unified_diff(diff["before"].splitlines(), diff["after"].splitlines(), lineterm="", n=1)
            diff["before"], diff["after"] = "", "\n".join(list(lines)[:400]) + "\n"
    return diffs


def refuse_nonsense(placer: Placer, files: list[dict[str, Any]], purge: list[str]) -> None:
    """Two different entries for one path would undo each other on every run."""
    seen: dict[str, dict[str, Any]] = {}
    for entry in files:
        if not os.path.isabs(entry["path"]):
            placer.fail(f"{entry['path']} is not an absolute path.")
        if seen.setdefault(os.path.normpath(entry["path"]), entry) != entry:
            placer.fail(f"{entry['path']} is listed twice, with different content, owner, mode or state.")
    for directory in purge:
        if not os.path.isabs(directory) or os.path.normpath(directory).count("/") < 2:
            placer.fail(f"purge: {directory} is not a directory that can be ours alone.")


def main() -> None:
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    placer = Placer(module)
    files = module.params["files"]
    refuse_nonsense(placer, files, module.params["purge"])
    for entry in files:
        try:
            placer.place({**entry, "path": os.path.normpath(entry["path"])})
        except OSError as exc:
            placer.fail(f"{entry['path']}: {exc.strerror or exc}.")
    wanted = {os.path.normpath(entry["path"]) for entry in files if entry["state"] != "absent"}
    for directory in module.params["purge"]:
        try:
            placer.purge(directory, wanted)
        except OSError as exc:
            placer.fail(f"{directory}: {exc.strerror or exc}.")
    if placer.changed and not module.check_mode:
        for command in module.params["validate"]:
            rc, out, err = module.run_command(command)
            if rc:
                placer.fail(f"'{command}' refused the new files, so the old ones are back: {placer.said(out, err)}")
    module.exit_json(
        changed=bool(placer.changed),
        changed_paths=placer.changed,
        armed=placer.guard.armed,
        diff=shorten(placer.diffs) if module._diff else [],
    )


if __name__ == "__main__":
    main()
