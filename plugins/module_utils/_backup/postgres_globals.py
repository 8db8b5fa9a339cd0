# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What belongs to a PostgreSQL cluster and not to one database's dump: roles, and what databases are like. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .postgres import identifier, literal

# Columns come and go with the versions; as JSON one query does for all.
DATABASES = """
SELECT jsonb_agg(jsonb_build_object(
 'name', d.datname, 'owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding),
 'collate', d.datcollate, 'ctype', d.datctype, 'provider', coalesce(to_jsonb(d)->>'datlocprovider', 'c'),
 'locale', coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'),
 'icu_rules', to_jsonb(d)->>'daticurules', 'connection_limit', d.datconnlimit,
 'comment', shobj_description(d.oid, 'pg_database'),
 'tablespace', (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace),
 'tablespaces', (SELECT coalesce(jsonb_agg(spcname), '[]') FROM pg_tablespace t
   WHERE t.oid = d.dattablespace OR CASE WHEN spcname NOT IN ('pg_default', 'pg_global')
    THEN EXISTS (SELECT FROM pg_tablespace_databases(t.oid) o WHERE o = d.oid) END),
 'acl', (SELECT jsonb_agg(jsonb_build_array(CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END,
   a.privilege_type, a.is_grantable)) FROM aclexplode(d.datacl) a),
 'settings', (SELECT coalesce(jsonb_agg(jsonb_build_array(
   CASE WHEN s.setrole = 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END, one)), '[]')
   FROM pg_db_role_setting s, unnest(s.setconfig) one WHERE s.setdatabase = d.oid)))
FROM pg_catalog.pg_database d WHERE NOT d.datistemplate AND d.datallowconn
"""
NAME = r'"(?:[^"]|"")+"|[^\s";]+'
ROLE = re.compile(rf"(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) ({NAME})")
MEMBERSHIP = re.compile(rf"GRANT ({NAME}) TO ({NAME})")
# Their folders are on the host where the backup comes from, perhaps with its data in them.
TABLESPACE = re.compile(r"(?:CREATE|ALTER|COMMENT ON|GRANT \w+ ON|REVOKE \w+ ON) TABLESPACE")
# Kept by the server as a list of quoted names; everything else is one text.
LISTS = ("local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces")
LIST_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,"]+))\s*(?:,|$)')


def statements(script: str) -> Iterator[str]:
    """The statements of a script by pg_dumpall, which quotes what is not plain. Lines for psql alone are left out."""
    start, quote, at_line_start = 0, "", True
    position = 0
    while position < len(script):
        char = script[position]
        if quote:
            quote = "" if char == quote else quote
        elif at_line_start and (char == "\\" or script.startswith("--", position)):
            end = script.find("\n", position)
            position = len(script) if end < 0 else end + 1
            start = position
            continue
        elif char in "'\"":
            quote = char
        elif char == ";":
            yield script[start : position + 1].strip()
            start = position + 1
        at_line_start = char == "\n" or (at_line_start and char.isspace())
        position += 1


def unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def for_new_cluster(script: str, superuser: str) -> str:
    """All roles, for a cluster that has one, the superuser who made it."""
    return joined(
        one for one in statements(script) if not TABLESPACE.match(one) and one != f"CREATE ROLE {quoted(superuser)};"
    )


def quoted(name: str) -> str:
    """As pg_dumpall writes it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else identifier(name)


def for_missing_roles(script: str, present: set[str]) -> tuple[list[str], str]:
    """The roles that a server lacks, and the statements that make them, with their memberships."""
    made: list[str] = []
    wanted: list[str] = []
    for one in statements(script):
        role, membership = ROLE.match(one), MEMBERSHIP.match(one)
        if role and unquoted(role[1]) not in present:
            wanted.append(one)
            if one.startswith("CREATE"):
                made.append(unquoted(role[1]))
        elif membership and not {unquoted(membership[1]), unquoted(membership[2])} <= present:
            wanted.append(one)
    return made, joined(wanted)


def joined(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)


def create(about: Mapping[str, Any], name: str, major: int) -> str:
    """The statement that makes an empty database like the one described.

    @param major: of the server that it is for
    """
    words = [f"CREATE DATABASE {identifier(name)} TEMPLATE template0 OWNER {identifier(about['owner'])}"]
    words.append(f"ENCODING {literal(about['encoding'])}")
    words.append(f"LC_COLLATE {literal(about['collate'])} LC_CTYPE {literal(about['ctype'])}")
    if major >= 15:
        provider = {"c": "libc", "i": "icu", "b": "builtin"}[about["provider"]]
        words.append(f"LOCALE_PROVIDER {provider}")
        if about["locale"] and provider != "libc":
            words.append(f"{provider.upper()}_LOCALE {literal(about['locale'])}")
        if about["icu_rules"] and major >= 16:
            words.append(f"ICU_RULES {literal(about['icu_rules'])}")
    if about["tablespace"]:
        words.append(f"TABLESPACE {identifier(about['tablespace'])}")
    return " ".join(words)


def finish(about: Mapping[str, Any], name: str) -> str:
    """What a database gets once its data is there, because it could hinder the load: rights, limit, settings."""
    database = f"DATABASE {identifier(name)}"
    lines = [f"ALTER {database} CONNECTION LIMIT {int(about['connection_limit'])};"]
    if about["comment"]:
        lines.append(f"COMMENT ON {database} IS {literal(about['comment'])};")
    if about["acl"] is not None:
        lines.append(f"REVOKE ALL ON {database} FROM PUBLIC, {identifier(about['owner'])};")
        for grantee, privilege, grantable in about["acl"]:
            to = identifier(grantee) if grantee else "PUBLIC"
            lines.append(f"GRANT {privilege} ON {database} TO {to}{' WITH GRANT OPTION' if grantable else ''};")
    for role, setting in about["settings"]:
        parameter, _equals, value = setting.partition("=")
        whose = f"ROLE {identifier(role)} IN {database}" if role else database
        # The parts of a parameter's name are quoted one by one: app.user
        quoted_name = ".".join(identifier(part) for part in parameter.split("."))
        lines.append(f"ALTER {whose} SET {quoted_name} TO {setting_value(parameter, value)};")
    return joined(lines)


def setting_value(parameter: str, value: str) -> str:
    if parameter.lower() not in LISTS:
        return literal(value)
    items = [
        match[1].replace('""', '"') if match[1] is not None else match[2].strip() for match in LIST_ITEM.finditer(value)
    ]
    return ", ".join(literal(item) for item in items) or "''"
