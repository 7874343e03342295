"""Two stages on four hosts that share nothing but their network: Postgres, the broker and S3 on the
first, a worker that embeds on the second, sampler nodes on the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import s3_server, verdict
from tests.fleet import until
from tests.footage import Footage
from tests.proxy import Proxy
from tests.s3_server import S3Server
from tests.servers import Servers
from tests.soak import hosts
from tests.soak.hosts import Host, Spread

EMBEDDING, SAMPLING, JOINING = 0, 1, 2
SOURCE_SECONDS = 0.1


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Host]]:
    if not hosts.can_be_made():
        pytest.skip("network namespaces take root and iproute2")
    with hosts.network(3) as made:
        monkeypatch.setattr(Proxy, "host", hosts.ADDRESS)
        yield made


@pytest.fixture
def fleet(machines: list[Host], reachable: Path, s3: S3Server, bucket: str) -> Iterator[Spread]:
    folder = reachable / "hosts"
    folder.mkdir(mode=0o755)
    with (
        Servers.started(folder) as servers,
        Footage.made(folder) as footage,
        Proxy(s3.endpoint) as s3_hop,
    ):
        footage.hop.slow(delay_seconds=SOURCE_SECONDS / 2)
        store = {
            "REELVEC_FRAMES": f"s3://{bucket}/frames",
            "REELVEC_FRAMES_ENDPOINT": f"http://{s3_hop.endpoint}",
            "REELVEC_FRAMES_ACCESS_KEY_ID": s3_server.KEY,
            "REELVEC_FRAMES_SECRET_ACCESS_KEY": s3_server.SECRET,
        }
        made = Spread(servers, footage, folder, size=3, sampling=2, variables=store, hosts=machines)
        try:
            yield made
        finally:
            made.dry()
            for worker in made.workers.values():
                worker.kill()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.bucket()


def works(fleet: Spread, *indexes: int) -> None:
    """Each of these takes and finishes a video from now on."""
    since = time.time()
    until(lambda: not set(indexes) & set(fleet.behind(since)), f"{indexes} at work", seconds=120)


@pytest.mark.timeout(600)
def test_a_sampler_joins_one_is_cut_off_and_one_is_killed(
    fleet: Spread, machines: list[Host], s3: S3Server, bucket: str
) -> None:
    fleet.start(EMBEDDING)
    fleet.start(SAMPLING)
    fleet.supply()
    works(fleet, EMBEDDING, SAMPLING)
    fleet.start(JOINING)
    works(fleet, JOINING)
    until(lambda: fleet.is_at_work(SAMPLING), "the sampler has videos in hand")
    machines[SAMPLING].cut_off()
    until(lambda: not fleet.is_at_work(SAMPLING), "others have its videos", seconds=120)
    works(fleet, EMBEDDING, JOINING)
    machines[SAMPLING].connect()
    works(fleet, SAMPLING)
    until(lambda: fleet.is_at_work(JOINING), "the sampler has videos in hand")
    fleet.kill(JOINING)
    works(fleet, EMBEDDING, SAMPLING, JOINING)
    found = verdict.judge(fleet, seconds=120)
    assert found.holds, found
    assert found.reaped, "the dead worker's videos were taken from it"
    assert fleet.embedded_from_frames(), "frames went by the store"
    until(lambda: not list(s3.client.list_objects(bucket, recursive=True)), "the store is swept")
