"""Fails on start and prints its secret while it does, as a careless traceback would."""

import os

raise RuntimeError("v3 cannot start with " + os.environ["APP_SECRET"])
