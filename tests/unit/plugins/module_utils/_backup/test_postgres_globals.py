"""Roles and databases of a PostgreSQL cluster, as SQL."""

from __future__ import annotations

from typing import Any

from plugins.module_utils._backup import postgres_globals

# As pg_dumpall 17 writes it, with names and texts that have everything in them.
GLOBALS = r"""--
-- PostgreSQL database cluster dump; isn't SQL
--

\restrict aBc;'

SET default_transaction_read_only = off;

--
-- Roles
--

CREATE ROLE "Odd ""Role; x";
ALTER ROLE "Odd ""Role; x" WITH NOSUPERUSER NOLOGIN;
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:a==$b=:c=';
COMMENT ON ROLE app IS 'the app''s;
-- role';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:d==$e=:f=';

ALTER ROLE app SET work_mem TO '8MB';

GRANT "Odd ""Role; x" TO app WITH ADMIN OPTION GRANTED BY postgres;
GRANT pg_monitor TO postgres GRANTED BY postgres;

CREATE TABLESPACE fast OWNER postgres LOCATION '/mnt/fast';
GRANT ALL ON TABLESPACE fast TO app;

\unrestrict aBc;'
"""
ABOUT: dict[str, Any] = {
    "name": "shop",
    "owner": "app",
    "encoding": "UTF8",
    "collate": "C.UTF-8",
    "ctype": "C.UTF-8",
    "provider": "c",
    "locale": None,
    "icu_rules": None,
    "connection_limit": -1,
    "comment": None,
    "tablespace": "pg_default",
    "tablespaces": ["pg_default"],
    "acl": None,
    "settings": [],
}


def test_the_statements_of_a_script_are_told_apart() -> None:
    found = list(postgres_globals.statements(GLOBALS))
    assert found[0] == "SET default_transaction_read_only = off;"
    assert found[1] == 'CREATE ROLE "Odd ""Role; x";'
    assert "COMMENT ON ROLE app IS 'the app''s;\n-- role';" in found
    assert len(found) == 13
    assert not [one for one in found if "restrict" in one]


def test_a_new_cluster_gets_all_roles_but_its_own_and_no_tablespaces() -> None:
    script = postgres_globals.for_new_cluster(GLOBALS, "postgres")
    assert "CREATE ROLE app;" in script
    assert "CREATE ROLE postgres;" not in script
    assert "ALTER ROLE postgres WITH" in script
    assert "TABLESPACE" not in script


def test_only_missing_roles_are_made_with_what_belongs_to_them() -> None:
    made, script = postgres_globals.for_missing_roles(GLOBALS, {"postgres", "pg_monitor", "app"})
    assert made == ['Odd "Role; x']
    assert script.splitlines() == [
        'CREATE ROLE "Odd ""Role; x";',
        'ALTER ROLE "Odd ""Role; x" WITH NOSUPERUSER NOLOGIN;',
        'GRANT "Odd ""Role; x" TO app WITH ADMIN OPTION GRANTED BY postgres;',
    ]


def test_no_role_is_touched_when_all_are_there() -> None:
    assert postgres_globals.for_missing_roles(GLOBALS, {"postgres", "pg_monitor", "app", 'Odd "Role; x'}) == ([], "")


def test_a_database_is_made_like_that_of_the_backup() -> None:
    assert postgres_globals.create({**ABOUT, "tablespace": ""}, "new", 14) == (
        'CREATE DATABASE "new" TEMPLATE template0 OWNER "app" ENCODING \'UTF8\' '
        "LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
    )
    icu = {**ABOUT, "provider": "i", "locale": "de-DE", "icu_rules": "&a < b"}
    assert postgres_globals.create(icu, "shop", 17).endswith(
        "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' ICU_RULES '&a < b' TABLESPACE \"pg_default\""
    )
    builtin = {**ABOUT, "provider": "b", "locale": "C.UTF-8"}
    assert "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'" in postgres_globals.create(builtin, "shop", 17)


def test_rights_and_settings_of_a_database_come_back() -> None:
    about = {
        **ABOUT,
        "comment": "it's",
        "connection_limit": 5,
        "acl": [["app", "CREATE", False], [None, "CONNECT", False], ["Odd", "CONNECT", True]],
        "settings": [
            [None, "app.Key=a=b'c"],
            [None, 'search_path="$user", public, "Mi,""xed"'],
            ["app", "search_path="],
            ["app", 'search_path=""'],
        ],
    }
    assert postgres_globals.finish(about, "new").splitlines() == [
        'ALTER DATABASE "new" CONNECTION LIMIT 5;',
        "COMMENT ON DATABASE \"new\" IS 'it''s';",
        'REVOKE ALL ON DATABASE "new" FROM PUBLIC, "app";',
        'GRANT CREATE ON DATABASE "new" TO "app";',
        'GRANT CONNECT ON DATABASE "new" TO PUBLIC;',
        'GRANT CONNECT ON DATABASE "new" TO "Odd" WITH GRANT OPTION;',
        'ALTER DATABASE "new" SET "app"."Key" TO \'a=b\'\'c\';',
        "ALTER DATABASE \"new\" SET \"search_path\" TO '$user', 'public', 'Mi,\"xed';",
        'ALTER ROLE "app" IN DATABASE "new" SET "search_path" TO \'\';',
        'ALTER ROLE "app" IN DATABASE "new" SET "search_path" TO \'\';',
    ]
