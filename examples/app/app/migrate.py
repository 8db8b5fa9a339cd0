"""Brings the database to the newest schema: python -m app.migrate. Safe to run twice, and by two hosts at once."""

from __future__ import annotations

import psycopg

from app.settings import settings

LOCK = 7_315_002
# Only ever append; a migration has to leave the previous release working.
MIGRATIONS = [
    """
    CREATE TABLE jobs (
        id uuid PRIMARY KEY,
        text text NOT NULL,
        status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'done')),
        progress integer NOT NULL DEFAULT 0,
        attempts integer NOT NULL DEFAULT 0,
        completions integer NOT NULL DEFAULT 0,
        result jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX jobs_created ON jobs (created_at DESC);
    CREATE INDEX jobs_open ON jobs (updated_at) WHERE status <> 'done'
    """,
    """
    CREATE TABLE uploads (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        bytes integer NOT NULL,
        stored_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE heartbeats (
        name text PRIMARY KEY,
        beats bigint NOT NULL,
        jobs bigint NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    )
    """,
]


def migrate() -> int:
    """Applies what is missing in one transaction and returns how many migrations that were."""
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version integer PRIMARY KEY)")
        row = connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()
        done = row[0] if row else 0
        for version, statements in enumerate(MIGRATIONS[done:], start=done + 1):
            connection.execute(statements)
            connection.execute("INSERT INTO schema_version VALUES (%s)", (version,))
        return len(MIGRATIONS) - min(done, len(MIGRATIONS))


if __name__ == "__main__":
    print(f"{migrate()} migrations applied, the schema is at {len(MIGRATIONS)}.")
