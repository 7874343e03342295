"""Models in a bucket: the same files as in a models folder, below a prefix, with models.lock beside
them.

A process that loads from there keeps a copy on its own disk, in a folder named by the digest of the
weights. Such a copy is a models folder like any other.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from db.errors import RefusedConfigurationError, UnavailableError, UsageError, VideoError
from db.stack import local_stack
from workers.settings import WorkerSettings
from workers.sources.schemes import bucket_and_key
from workers.sources.storage import Storage
from workers.weights import lock, shared_folders
from workers.weights.lock import LOCK_NAME, Entry

log = logging.getLogger(__name__)

#: What another try does not cure.
_REFUSALS = frozenset(
    {
        "not_found",
        "access_denied",
        "bad_credentials",
        "no_bucket",
        "request_refused",
        "address_refused",
        "io_error",
    }
)


@dataclass(frozen=True)
class Bucket:
    """`uri` is `s3://bucket/prefix` without a slash at its end; `settings` say how it is
    reached.
    """

    uri: str
    settings: WorkerSettings

    def __str__(self) -> str:
        return self.uri

    def lock(self) -> dict[str, Entry]:
        """The entries of its models.lock; none where there is none.

        Raises `RefusedConfigurationError` (no access, no bucket, not a lock), `UnavailableError`.
        """
        where = f"{self.uri}/{LOCK_NAME}"
        with self._storage() as storage:
            try:
                with storage.open(where) as source:
                    return lock.parse(source.read(0, source.size_bytes), where)
            except VideoError as error:
                if error.code == "not_found":
                    return {}
                raise

    def local_copy(self, backbone: str) -> Path:
        """A models folder on this machine that holds `backbone`, verified; downloaded where it is
        not there yet.

        Raises `RefusedConfigurationError` for what models.lock lacks, what the bucket holds damaged
        and a data folder that may not be written, `UnavailableError`.
        """
        entry = self.lock().get(backbone)
        if entry is None:
            raise RefusedConfigurationError(
                f"{backbone}: {self.uri}/{LOCK_NAME} does not list it; `reelvec models fetch "
                f"{backbone} --to {self.uri}` puts it there"
            )
        copies = cache_dir()
        final = copies / entry.weights_digest
        with shared_folders.exclusive(copies, entry.weights_digest, "REELVEC_DATA_DIR"):
            if (final / backbone).is_dir():
                problem = lock.damage(final / backbone, entry)
                if problem is None:
                    return final
                log.warning("%s: %s; downloading it again", backbone, problem)
            new = copies / f".{entry.weights_digest}.new"
            shutil.rmtree(new, ignore_errors=True)
            (new / backbone).mkdir(parents=True)
            shared_folders.refuse_full_disk(
                copies, entry.size_bytes, "free some, or set REELVEC_DATA_DIR to another disk"
            )
            # a warning, as it may take minutes, once on every node
            log.warning(
                "%s: not here yet: downloading %.1f MB from %s",
                backbone,
                entry.size_bytes / 1e6,
                self.uri,
            )
            self.download(backbone, entry, new / backbone)
            if problem := lock.damage(new / backbone, entry):
                shutil.rmtree(new)
                raise RefusedConfigurationError(
                    f"{backbone}: {problem} as {self.uri}/{LOCK_NAME} says: the bucket holds other "
                    f"files; `reelvec models fetch {backbone} --to {self.uri}` brings them again"
                )
            lock.write(new, {backbone: entry})
            shared_folders.put_in_place(new, final)
        return final

    def download(self, backbone: str, entry: Entry, folder: Path) -> None:
        """A backbone's files into a folder, as they are. Raises `RefusedConfigurationError`,
        `UnavailableError`.
        """
        with self._storage() as storage:
            for name in entry.files:
                storage.download(f"{self.uri}/{backbone}/{name}", folder / name)

    def upload(self, backbone: str, entry: Entry, folder: Path) -> None:
        """A backbone's files from a folder, then models.lock. Raises `RefusedConfigurationError`,
        `UnavailableError`.
        """
        with self._storage() as storage, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            for name in entry.files:
                storage.upload(folder / name, f"{self.uri}/{backbone}/{name}")
            content = lock.dump({**self.lock(), backbone: entry})
            (Path(scratch) / LOCK_NAME).write_bytes(content)
            storage.upload(Path(scratch) / LOCK_NAME, f"{self.uri}/{LOCK_NAME}")

    def size_problem(self, backbone: str, entry: Entry) -> str | None:
        """What the listing says against `entry`, as half a sentence. Raises as `lock` does."""
        folder = f"{self.uri}/{backbone}/"
        prefix = bucket_and_key(folder)[1]
        with self._storage() as storage:
            sizes = {
                listed.key.removeprefix(prefix): listed.size_bytes
                for listed in storage.list(folder)
            }
        for name, facts in sorted(entry.files.items()):
            if name not in sizes:
                return f"{self.uri}/{backbone}/{name} does not exist"
            if sizes[name] != facts.size_bytes:
                return (
                    f"{self.uri}/{backbone}/{name} has {sizes[name]:,} bytes, not "
                    f"{facts.size_bytes:,}"
                )
        return None

    @contextmanager
    def _storage(self) -> Iterator[Storage]:
        """The client. Its errors become those of a configuration or a service: no video is
        concerned.
        """
        try:
            with Storage(self.settings, roots=None) as storage:
                yield storage
        except VideoError as error:
            kind = RefusedConfigurationError if error.code in _REFUSALS else UnavailableError
            raise kind(f"models in {self.uri}: {error.code}: {error}") from error


def cache_dir() -> Path:
    """Where copies from buckets lie. Raises `RefusedConfigurationError` for a user without a data
    folder.
    """
    try:
        return local_stack.default_data_dir() / "models-cache"
    except UsageError as error:  # a worker ends with it, rather than blame its videos
        raise RefusedConfigurationError(
            f"models from a bucket need a folder for copies: {error}"
        ) from error
