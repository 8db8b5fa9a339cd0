"""Counts how often it ran."""

import os

assert os.environ["APP_SECRET"]
with open("/srv/app/shared/migrations", "a", encoding="utf-8") as handle:
    handle.write(os.path.realpath(".") + "\n")
