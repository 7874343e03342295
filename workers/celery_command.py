"""`python -P -m workers.celery_command worker ...`: Celery's command line on our own modules,
whatever the current folder holds.

Celery puts that folder first on Python's path to find what `-A` names; what is imported already it
does not look for.
"""

from __future__ import annotations

import sys

from celery.__main__ import main

from workers import tasks  # noqa: F401 - with it everything of ours that Celery would import

if __name__ == "__main__":
    sys.exit(main())
