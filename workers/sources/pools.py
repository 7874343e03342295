"""Options every connection pool shares."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import certifi
from urllib3 import Timeout

from workers.sources.limits import Limits


def pool_options(
    limits: Limits, connections: int, *, ca_variables: Sequence[str] = ("SSL_CERT_FILE",)
) -> dict[str, Any]:
    """TLS is always verified, retries are ours.

    `ca_variables`: those that may name a file of authorities to trust instead of the usual ones;
    the first that is set.
    """
    own = next((os.environ[name] for name in ca_variables if os.environ.get(name)), None)
    return {
        "maxsize": connections,
        "timeout": Timeout(connect=limits.wait_seconds, read=limits.wait_seconds),
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": own or certifi.where(),
    }
