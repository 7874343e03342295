"""Options every connection pool shares."""

from __future__ import annotations

import os
from typing import Any

import certifi
from urllib3 import Timeout

from workers.stores.limits import Limits

#: Names of files with certificate authorities, the standard ones first.
CA_VARIABLES = ("SSL_CERT_FILE", "AWS_CA_BUNDLE")


def pool_options(limits: Limits, connections: int) -> dict[str, Any]:
    """TLS is always verified, proxies of the environment are ignored, retries are ours."""
    own = next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), None)
    return {
        "maxsize": connections,
        "timeout": Timeout(connect=limits.wait_seconds, read=limits.wait_seconds),
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": own or certifi.where(),
    }
