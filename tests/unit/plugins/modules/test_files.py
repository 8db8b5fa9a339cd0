"""files: every triple on a real directory, and what happens when something is refused half way."""

from __future__ import annotations

import getpass
import grp
import os
import stat

import pytest

from plugins.modules import files

OWN = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


def entry(path, **more):
    return {"path": str(path), **OWN, **more}


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def snapshot(root):
    return {
        str(p): (os.readlink(p) if p.is_symlink() else p.read_bytes() if p.is_file() else None, p.lstat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
    }


def test_everything_at_once(triple, tmp_path):
    (tmp_path / "old").write_text("old")
    result = triple(
        files,
        files=[
            entry(tmp_path / "etc/app", state="directory", mode="0750"),
            entry(tmp_path / "etc/app/a.conf", content="a=1\n", mode="0640"),
            entry(tmp_path / "etc/app/empty", content=""),
            entry(tmp_path / "current", state="link", target="etc/app"),
            entry(tmp_path / "old", state="absent"),
        ],
    )
    assert len(result["changed_paths"]) == 5
    assert mode_of(tmp_path / "etc/app") == 0o750
    assert mode_of(tmp_path / "etc/app/a.conf") == 0o640
    assert (tmp_path / "etc/app/a.conf").read_text() == "a=1\n"
    assert mode_of(tmp_path / "etc/app/empty") == 0o644
    assert os.readlink(tmp_path / "current") == "etc/app"
    assert not (tmp_path / "old").exists()


def test_an_empty_list_changes_nothing(triple):
    assert not triple(files, files=[])["changed"]


def test_check_mode_writes_nothing(run_module, tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "gone").write_text("x")
    before = snapshot(tmp_path)
    result = run_module(
        files,
        check=True,
        files=[
            entry(tmp_path / "a", content="new"),
            entry(tmp_path / "gone", state="absent"),
            entry(tmp_path / "link", state="link", target="a"),
            entry(tmp_path / "d", state="directory"),
        ],
        purge=[str(tmp_path)],
        validate=["false"],
    )
    assert result["changed"]
    assert snapshot(tmp_path) == before


def test_check_mode_on_a_new_host(run_module, tmp_path):
    """Neither the package's directory, nor its account, nor its own files are there yet."""
    result = run_module(
        files,
        check=True,
        files=[
            entry(tmp_path / "etc/redis/a.conf", content="x", owner="nobody-of-that-name"),
            entry(tmp_path / "etc/redis/link", state="link", target="a.conf"),
            entry(tmp_path / "etc/redis/theirs.conf", mode="0640"),
        ],
        purge=[str(tmp_path / "etc/redis/conf.d")],
    )
    assert not result.failed
    assert len(result["changed_paths"]) == 3


def test_missing_directory_is_a_sentence(run_module, tmp_path):
    result = run_module(files, files=[entry(tmp_path / "no/a", content="x")])
    assert result.failed
    assert "list the directory before the file" in result["msg"]


def test_content_without_source_sets_attributes_only(triple, tmp_path):
    path = tmp_path / "theirs"
    path.write_text("theirs")
    path.chmod(0o644)
    triple(files, files=[entry(path, mode="0600")])
    assert (path.read_text(), mode_of(path)) == ("theirs", 0o600)


def test_no_content_for_a_missing_file(run_module, tmp_path):
    assert "has no content for it" in run_module(files, files=[entry(tmp_path / "x")])["msg"]


def test_create_only_keeps_what_is_there(triple, tmp_path):
    first = entry(tmp_path / "key", content="first\n", create_only=True, mode="0600")
    triple(files, files=[first])
    triple(files, files=[{**first, "content": "second\n"}])
    assert (tmp_path / "key").read_text() == "first\n"


@pytest.mark.parametrize("text", ["no newline", "a\r\nb\r\n", "ümläut ✓\n", "x" * 200_000])
def test_text_arrives_as_it_is(triple, tmp_path, text):
    triple(files, files=[entry(tmp_path / "a", content=text)])
    assert (tmp_path / "a").read_bytes() == text.encode()


def test_bytes_that_are_no_text_are_replaced(triple, tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    triple(files, files=[entry(tmp_path / "a", content="text\n")])
    assert (tmp_path / "a").read_text() == "text\n"


def test_a_long_diff_is_shortened(run_module, tmp_path):
    lines = [f"line {n}\n" for n in range(20_000)]
    (tmp_path / "a").write_text("".join(lines))
    result = run_module(files, files=[entry(tmp_path / "a", content="".join(lines[:-1]) + "other\n")])
    assert len(str(result["diff"])) < 10_000
    assert "+other" in result["diff"][0]["after"]


def test_a_link_in_the_place_of_a_file_is_replaced(triple, tmp_path):
    (tmp_path / "target").write_text("same\n")
    (tmp_path / "a").symlink_to("target")
    triple(files, files=[entry(tmp_path / "a", content="same\n")])
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "target").read_text() == "same\n"


def test_a_path_through_a_link(triple, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "via").symlink_to("real")
    triple(files, files=[entry(tmp_path / "via/a", content="x\n"), entry(tmp_path / "via", state="directory")])
    assert (tmp_path / "real/a").read_text() == "x\n"
    assert (tmp_path / "via").is_symlink()


def test_a_link_to_nothing_is_a_sentence(run_module, tmp_path):
    (tmp_path / "a").symlink_to("nowhere")
    assert "where nothing is" in run_module(files, files=[entry(tmp_path / "a", mode="0600")])["msg"]


def test_links_change_at_once(triple, tmp_path):
    for target in ("one", "two"):
        triple(files, files=[entry(tmp_path / "current", state="link", target=target)])
    (tmp_path / "file").write_text("x")
    triple(files, files=[entry(tmp_path / "file", state="link", target="one")])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "file"]


@pytest.mark.parametrize(
    ("make", "ask", "words"),
    [
        (lambda p: p.mkdir(), {"content": "x"}, "is a directory, not a file"),
        (lambda p: p.mkdir(), {"state": "link", "target": "x"}, "cannot become a link"),
        (lambda p: p.write_text("x"), {"state": "directory"}, "is not a directory"),
        (lambda p: None, {"state": "link"}, "needs a target"),
        (
            lambda p: None,
            {"content": "x", "owner": "nobody-of-that-name"},
            "owner 'nobody-of-that-name' does not exist",
        ),
        (
            lambda p: None,
            {"content": "x", "group": "nobody-of-that-name"},
            "group 'nobody-of-that-name' does not exist",
        ),
        (lambda p: None, {"template": "x.j2"}, "rendered by the action plugin"),
        (lambda p: None, {"content": "x", "validate": "true"}, "has no %s"),
    ],
)
def test_refusals(run_module, tmp_path, make, ask, words):
    make(tmp_path / "x")
    result = run_module(files, files=[entry(tmp_path / "x", **ask)])
    assert result.failed
    assert words in result["msg"]


@pytest.mark.parametrize("mode", [0o640, 640, "u=rw", "9999", "64", "-640", ""])
def test_modes_that_are_not_octal_text(run_module, tmp_path, mode):
    result = run_module(files, files=[entry(tmp_path / "x", content="x", mode=mode)])
    assert result.failed
    assert "not octal" in result["msg"]
    assert not (tmp_path / "x").exists()


def test_relative_paths_and_twins_are_refused(run_module, tmp_path):
    assert "absolute" in run_module(files, files=[entry("etc/x", content="x")])["msg"]
    twins = [entry(tmp_path / "x", content="1"), entry(f"{tmp_path}//x", content="2")]
    assert "listed twice" in run_module(files, files=twins)["msg"]
    assert not run_module(files, files=[entry(tmp_path / "x", content="1")] * 2).failed


@pytest.mark.parametrize("directory", ["/", "/etc", "/etc/", "etc/x", "/etc/.."])
def test_purge_of_a_top_directory_is_refused(run_module, directory):
    assert run_module(files, check=True, purge=[directory]).failed


def test_purge_leaves_only_what_is_named(triple, tmp_path):
    for name in ("keep.conf", "stray.conf", "other.conf"):
        (tmp_path / name).write_text("x")
    (tmp_path / "stray.link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    result = triple(
        files,
        files=[entry(f"{tmp_path}/./keep.conf", content="x"), entry(tmp_path / "other.conf", state="absent")],
        purge=[f"{tmp_path}/"],
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "keep.conf"]
    assert len(result["changed_paths"]) == 3


def test_refused_text_never_arrives(run_module, tmp_path):
    (tmp_path / "a").write_text("good\n")
    before = snapshot(tmp_path)
    result = run_module(files, files=[entry(tmp_path / "a", content="bad\n", validate="grep -q good %s")])
    assert "refused the new text" in result["msg"]
    assert not result["changed"]
    assert snapshot(tmp_path) == before


def test_accepted_text_arrives(triple, tmp_path):
    triple(files, files=[entry(tmp_path / "a", content="good\n", validate="grep -q good %s")])


def test_refused_set_is_put_back(run_module, tmp_path):
    """Texts, links, purged files, modes and time stamps: as if the call had not been."""
    (tmp_path / "a").write_text("old\n")
    (tmp_path / "a").chmod(0o600)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "was-link").symlink_to("a")
    (tmp_path / "gone").write_text("gone\n")
    for name in ("stray", "stray2"):
        (tmp_path / name).write_text(name)
    (tmp_path / "stray.link").symlink_to("a")
    before = snapshot(tmp_path)
    result = run_module(
        files,
        files=[
            entry(tmp_path / "a", content="new\n"),
            entry(tmp_path / "b", content="new\n"),
            entry(tmp_path / "link", state="link", target="b"),
            entry(tmp_path / "new-link", state="link", target="b"),
            entry(tmp_path / "was-link", content="new\n"),
            entry(tmp_path / "gone", state="absent"),
        ],
        purge=[str(tmp_path)],
        validate=["true", "sh -c 'echo line 7 is wrong >&2; exit 1'"],
    )
    assert result.failed
    assert "line 7 is wrong" in result["msg"]
    assert not result["changed"]
    assert snapshot(tmp_path) == before
    assert mode_of(tmp_path / "a") == 0o600


def test_a_later_refusal_puts_the_earlier_files_back(run_module, tmp_path):
    (tmp_path / "a").write_text("old\n")
    before = snapshot(tmp_path)
    result = run_module(files, files=[entry(tmp_path / "a", content="new\n"), entry(tmp_path / "no/b", content="x")])
    assert result.failed
    assert snapshot(tmp_path) == before


def test_an_unchanged_set_is_not_checked_again(triple, tmp_path):
    triple(files, files=[entry(tmp_path / "a", content="x")], validate=[f"test -f {tmp_path}/a"])
    assert not triple(files, files=[entry(tmp_path / "a", content="x")], validate=["false"])["changed"]


@pytest.mark.parametrize("check", [True, False])
def test_a_secret_is_in_no_output(run_module, tmp_path, check):
    secret = "correct-horse-battery"
    (tmp_path / "a").write_text("old-staple-secret\n")
    result = run_module(
        files, check=check, files=[entry(tmp_path / "a", secret_content=f"password {secret}\n", mode="0600")]
    )
    assert result["changed"]
    assert secret not in result.text
    assert "staple" not in result.text


@pytest.mark.parametrize("whole", [True, False])
def test_a_refused_secret_is_in_no_output(run_module, tmp_path, whole):
    """The program that refuses quotes the line, as visudo does."""
    text = "user app\npassword = correct-horse-battery\n"
    grep = "grep -h password"
    ask = entry(tmp_path / "a", secret_content=text)
    if whole:
        result = run_module(files, files=[ask], validate=[f"sh -c '{grep} {tmp_path}/a >&2; exit 1'"])
    else:
        result = run_module(files, files=[{**ask, "validate": f"sh -c '{grep} \"$0\" >&2; exit 1' %s"}])
    assert result.failed
    assert "horse" not in result.text


def test_nothing_temporary_stays(run_module, tmp_path):
    run_module(files, files=[entry(tmp_path / "a", content="x", validate="false %s")])
    run_module(files, files=[entry(tmp_path / "a", content="x"), entry(tmp_path / "l", state="link", target="a")])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "l"]


def test_a_directory_tree_goes(triple, tmp_path):
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_text("x")
    triple(files, files=[entry(tmp_path / "d", state="absent")])
    assert not (tmp_path / "d").exists()


def test_single_lines_of_a_file_of_others(triple, tmp_path):
    path = tmp_path / "login.defs"
    path.write_text("# UMASK is for people\nUMASK\t022\nOTHER 1\nUMASK 077\n")
    triple(
        files,
        files=[entry(path, lines=[{"match": r"UMASK\s", "line": "UMASK 027"}, {"match": "NEW=", "line": "NEW=1"}])],
    )
    assert path.read_text() == "# UMASK is for people\nUMASK 027\nOTHER 1\nNEW=1\n"


def test_a_line_that_is_only_replaced_is_never_added(triple, tmp_path):
    path = tmp_path / "su"
    path.write_text("# auth required pam_wheel.so\n")
    edits = [
        {"match": r"#?\s*auth\s+required\s+pam_wheel", "line": "auth required pam_wheel.so", "add": False},
        {"match": "account ", "line": "account required x.so", "add": False},
    ]
    triple(files, files=[entry(path, lines=edits)])
    assert path.read_text() == "auth required pam_wheel.so\n"


def test_an_optional_path_that_is_not_there_stays_away(run_module, tmp_path):
    wanted = [
        entry(tmp_path / "a", optional=True, mode="0600"),
        entry(tmp_path / "b", optional=True, state="directory"),
        entry(tmp_path / "c", optional=True, lines=[{"match": "a", "line": "a"}]),
    ]
    assert not run_module(files, files=wanted)["changed"]
    assert list(tmp_path.iterdir()) == []
