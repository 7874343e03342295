"""An S3 service for tests: OpenStack Swift's four servers behind its S3 interface, in this one
process.

Run as a child (`python tests/swift_server.py FOLDER PORT KEY SECRET`, KEY as `account:user`); it
prints `ready`. Never imported: eventlet patches the whole process.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")  # eventlet tells of its own end at every import

import eventlet  # noqa: E402

eventlet.monkey_patch()
os.fsync = os.fdatasync = lambda fd: None  # type: ignore[assignment]

from eventlet import wsgi  # noqa: E402
from swift.common import storage_policy, utils  # noqa: E402
from swift.common.http_protocol import SwiftHttpProtocol  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

STORES = ("account", "container", "object")
PROXY = """
[pipeline:main]
pipeline = catch_errors listing_formats s3api tempauth bulk slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
check_bucket_owner = false
max_bucket_listing = 100
[filter:tempauth]
use = egg:swift#tempauth
user_{user} = {secret} .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


class Cache:
    """What Swift keeps in memcached, in a dictionary: twice the speed."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[object, float]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> object:
        value, until = self._kept.get(key, (None, 0.0))
        return value if not until or until > time.time() else None

    def set(
        self, key: str, value: object, serialize: bool = True, time: int = 0, **_: object
    ) -> bool:
        import time as clock

        self._kept[key] = (json.loads(json.dumps(value)), clock.time() + time if time else 0.0)
        return True

    def incr(self, key: str, delta: int = 1, time: int = 0) -> int:
        count = int(self.get(key) or 0) + delta  # type: ignore[call-overload]
        self.set(key, count, time=time)
        return count

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._kept.pop(key, None)

    def set_multi(
        self, values: dict[str, object], server_key: str | None = None, **options: object
    ) -> None:
        for key, value in values.items():
            self.set(key, value)

    def get_multi(self, keys: list[str], server_key: str | None = None) -> list[object]:
        return [self.get(key) for key in keys]


def configure(folder: Path) -> None:
    """Swift looks for this file at a fixed place; here it is told another."""
    utils.SWIFT_CONF_FILE = str(folder / "swift.conf")
    Path(utils.SWIFT_CONF_FILE).write_text(
        "[swift-hash]\nswift_hash_path_suffix = s\nswift_hash_path_prefix = p\n"
        "[storage-policy:0]\nname = only\ndefault = yes\n"
    )
    utils.HASH_PATH_SUFFIX, utils.HASH_PATH_PREFIX = b"s", b"p"
    utils.fsync = utils.fdatasync = lambda fd: None
    storage_policy.reload_storage_policies()


def ring(folder: Path, name: str, port: int) -> None:
    builder = RingBuilder(1, 1, 0)
    device = {"region": 1, "zone": 1, "device": "disk", "weight": 1}
    builder.add_dev(
        {
            **device,
            "ip": "127.0.0.1",
            "port": port,
            "replication_ip": "127.0.0.1",
            "replication_port": port,
        }
    )
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{name}.ring.gz"))


def load(folder: Path, name: str, text: str) -> object:
    path = folder / f"{name}.conf"
    path.write_text(
        f"[DEFAULT]\nswift_dir = {folder}\ndevices = {folder}/devices\nmount_check = "
        "false\nworkers = 0\n"
        f"bind_ip = 127.0.0.1\nfallocate_reserve = 0\ndisable_fallocate = true\n{text}"
    )
    return loadapp(str(path), global_conf={"log_name": name})


def main(folder: Path, port: int, key: str, secret: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(
            1, signal.SIGKILL
        )  # dies with the test run, also when that is killed
    logging.disable(logging.CRITICAL)
    (folder / "devices" / "disk").mkdir(parents=True, exist_ok=True)
    configure(folder)
    sockets = {name: eventlet.listen(("127.0.0.1", 0)) for name in STORES}
    for name, listening in sockets.items():
        ring(folder, name, listening.getsockname()[1])
    sockets["proxy"] = eventlet.listen(("127.0.0.1", port))
    proxy = load(folder, "proxy", PROXY.format(user=key.replace(":", "_"), secret=secret))
    cache = Cache()

    def with_cache(environ: dict[str, object], start_response: object) -> object:
        return proxy({**environ, "swift.cache": cache}, start_response)  # type: ignore[operator]

    applications = {
        name: load(
            folder,
            name,
            f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = "
            f"egg:swift#{name}\n",
        )
        for name in STORES
    }
    applications["proxy"] = with_cache
    with Path(os.devnull).open("w") as nowhere:
        threads = [
            eventlet.spawn(
                wsgi.server, sockets[name], application, nowhere, protocol=SwiftHttpProtocol,
                capitalize_response_headers=False,
            )
            for name, application in applications.items()
        ]  # fmt: skip
        print("ready", flush=True)
        for thread in threads:
            thread.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
