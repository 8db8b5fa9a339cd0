# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The four clouds over HTTP: what the inventory plugins and the provisioning share. Private to this collection."""
