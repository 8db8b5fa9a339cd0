# Copyright: (c) 2026, the bulwark.stack maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  store:
    description:
      - Where the backups are, as C(backups_store) of the role P(bulwark.stack.backups#role) has it.
      - With C(module_defaults) and the group C(bulwark.stack.backup) it is written once for all modules.
    type: dict
    required: true
    suboptions:
      kind:
        description: The protocol. V(b2) is Backblaze's own, V(local) a directory.
        type: str
        choices: [s3, b2, sftp, local]
        required: true
      prefix:
        description: What all names in the store begin with.
        type: str
      provider:
        description: Whose S3 it is, which gives the endpoint. V(custom) needs an endpoint.
        type: str
        choices: [aws, b2, custom, hetzner, linode, r2, spaces, vultr]
        default: custom
      bucket:
        description: The bucket, for V(s3) and V(b2).
        type: str
      region:
        description: The region as the provider writes it.
        type: str
      account:
        description: The account in the endpoint of V(r2).
        type: str
      endpoint:
        description: A URL instead of the provider's own.
        type: str
      access_key:
        description: The public half of the credentials.
        type: str
      secret_key:
        description: The secret half.
        type: str
      ca_file:
        description: Certificate of the authority that signed the store's. The system's authorities unless given.
        type: path
      lock_days:
        description: For how many days the store refuses to delete a backup.
        type: int
        default: 0
      path:
        description: The directory, for V(sftp) and V(local).
        type: str
      mount_required:
        description: Whether V(local) refuses a directory that is no mount point.
        type: bool
        default: false
      host:
        description: The server, for V(sftp).
        type: str
      port:
        description: Its port.
        type: int
        default: 22
      user:
        description: The account there.
        type: str
      key_file:
        description: The private SSH key.
        type: path
      known_hosts_file:
        description: The server's keys as C(ssh-keyscan) prints them.
        type: path
      patience_seconds:
        description: How long a call that the store does not answer is tried again before the module fails.
        type: int
        default: 7200
requirements:
  - python3-zstandard and age for what is stored or read
  - python3-botocore for S3, python3-b2sdk for B2, openssh-client for SFTP
"""
