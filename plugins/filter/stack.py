# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All filters of the collection, each loaded when it is used.

Ansible reads every file in this folder in every worker process, that is once per task and host. With the functions
themselves here, that cost each task 30 ms; so they live in plugin_utils, and this table is all that is read.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

# The file in plugin_utils to the filters that it defines.
FILTERS = {
    "backups": (
        "backups_problems",
        "backups_packages",
        "backups_files",
        "backups_units",
        "backups_calls",
        "backups_restore_files",
        "backups_rebuild_note",
        "backups_rebuild_steps",
        "backups_rebuild_result",
    ),
    "base_hardening": (
        "base_hardening_ssh_settings",
        "base_hardening_ssh_lines",
        "base_hardening_ssh_drift",
        "base_hardening_ssh_units",
        "base_hardening_account_changes",
        "base_hardening_account_files",
        "base_hardening_user_problems",
        "base_hardening_login_problems",
        "base_hardening_networks",
        "base_hardening_resolved",
        "base_hardening_rule_problems",
        "base_hardening_rules",
        "base_hardening_egress",
        "base_hardening_logins",
        "base_hardening_swap_mb",
        "base_hardening_host_name",
        "base_hardening_contact_problem",
    ),
    "celery": (
        "celery_workers",
        "celery_workers_problems",
        "celery_workers_notes",
        "celery_workers_units",
        "celery_workers_files",
        "celery_workers_gate",
        "celery_workers_firewall_rules",
        "celery_workers_sites",
        "celery_command",
    ),
    "docker": (
        "docker_engine_version",
        "docker_settings",
        "docker_supported",
        "docker_left_out",
        "docker_problems",
        "docker_firewall_rules",
        "docker_packages",
        "docker_selections",
        "docker_files",
        "docker_units",
    ),
    "exposure": (
        "exposure_targets",
        "exposure_udp_ports",
        "exposure_compared",
        "exposure_report",
    ),
    "hardening_rules": (
        "base_hardening_plan",
        "base_hardening_profile_problems",
    ),
    "host_plan": (
        "planned_services",
        "host_plan_memory",
        "host_plan_cpu",
        "host_plan_table",
    ),
    "htpasswd": ("htpasswd",),
    "nginx": (
        "nginx_sites",
        "nginx_plan",
        "nginx_problems",
        "nginx_duplicates",
        "nginx_firewall_rules",
        "nginx_files",
        "nginx_jail_files",
        "nginx_forget",
        "nginx_units",
        "acme_problems",
        "certbot_command",
    ),
    "node_exporter": (
        "node_exporter_problems",
        "node_exporter_firewall_rules",
        "node_exporter_files",
        "node_exporter_units",
    ),
    "postgres": (
        "postgres_connections",
        "postgres_hba",
        "postgres_plan",
        "postgres_problems",
        "postgres_firewall_rules",
        "postgres_files",
        "postgres_units",
        "postgres_validations",
        "postgres_state_sql",
        "postgres_state",
        "postgres_changes",
        "postgres_complaints",
        "postgres_notes",
        "postgres_scram",
    ),
    "published": (
        "published",
        "port_conflicts",
        "mentioned_groups",
    ),
    "redis": (
        "redis_instances",
        "redis_problems",
        "redis_firewall_rules",
        "redis_backup_jobs",
        "redis_files",
        "redis_units",
    ),
    "systemd_unit": ("systemd_units",),
    "web_app": (
        "web_app_workers",
        "web_app_sites",
        "web_app_problems",
        "web_app_files",
        "web_app_units",
        "web_app_trial_units",
        "web_app_unit_lines",
    ),
}
PACKAGE = __name__.rpartition(".filter.")[0]


def lazy(module: str, name: str) -> Callable[..., Any]:
    def call(*words: Any, **named: Any) -> Any:
        return getattr(import_module(f"{PACKAGE}.plugin_utils.{module}"), name)(*words, **named)

    return call


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {name: lazy(module, name) for module, names in FILTERS.items() for name in names}
