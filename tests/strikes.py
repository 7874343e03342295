"""What is done to a fleet: each strike is a row of the fault matrix, and has healed when it
returns.

A strike is struck at a fleet whose places are all taken. It changes nothing but the outside:
processes, servers, connections and messages. What must hold afterwards is the same for all of them:
`tests/verdict.py`, and every worker finishes a video.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from db import session
from db.jobs import steering
from tests.fleet import Fleet, until
from tests.garbage import FORGED, GARBAGE
from tests.servers import QUEUE

Hit = Callable[[Fleet, Random], None]


@dataclass(frozen=True)
class Strike:
    """`rows`: those of matrix C that it stands for. `ends`: exit codes with which a worker may end
    itself meanwhile.

    `spares`: no worker may lose a video to the reaper, as all of them live.
    """

    name: str
    rows: str
    what: str
    hit: Hit
    ends: frozenset[int] = frozenset()
    spares: bool = False


STRIKES: dict[str, Strike] = {}


def strike(name: str, rows: str, *, ends: frozenset[int] = frozenset()) -> Callable[[Hit], Hit]:
    """Register a strike; its docstring says what it does."""

    def register(hit: Hit) -> Hit:
        STRIKES[name] = Strike(
            name, rows, " ".join((hit.__doc__ or "").split()).rstrip("."), hit, ends
        )
        return hit

    return register


def any_of(fleet: Fleet, random: Random) -> int:
    """One worker."""
    return random.choice(sorted(fleet.workers))


# Workers


@strike("worker-kill", "1-6")
def worker_kill(fleet: Fleet, random: Random) -> None:
    """`kill -9` of a busy worker, which is started again."""
    fleet.kill(any_of(fleet, random))


@strike("worker-kill-all", "14")
def worker_kill_all(fleet: Fleet, random: Random) -> None:
    """`kill -9` of all workers at once, which are started again."""
    fleet.kill(*fleet.workers)


@strike("worker-term", "7")
def worker_term(fleet: Fleet, random: Random) -> None:
    """SIGTERM to a busy worker, which must end with 0 and is started again."""
    code = fleet.drain(any_of(fleet, random))
    assert code == 0, f"exit {code} after SIGTERM"


@strike("worker-stop", "9")
def worker_stop(fleet: Fleet, random: Random) -> None:
    """SIGSTOP of a worker until others (or it itself, woken) have taken its videos back, then
    SIGCONT.
    """
    process = fleet.workers[any_of(fleet, random)].process
    process.send_signal(signal.SIGSTOP)
    time.sleep(random.uniform(1.0, 5.0) if fleet.fast else 60.0)
    process.send_signal(signal.SIGCONT)


@strike("worker-cut-off", "45")
def worker_cut_off(fleet: Fleet, random: Random) -> None:
    """Nothing gets through from one worker to Postgres for 75 s (5 s at short intervals): others
    may have its videos.
    """
    fleet.servers.private_hop.black_hole()
    time.sleep(5 if fleet.fast else 75)
    fleet.servers.private_hop.forward()


@strike("sampler-kill", "46")
def sampler_kill(fleet: Fleet, random: Random) -> None:
    """`kill -9` of a worker's sampler processes."""
    for sampler in fleet.samplers(any_of(fleet, random)):
        sampler.kill()


# The broker

#: A worker that cannot take work any more may end itself so that its supervisor starts it again.
WATCHED = frozenset({70})


@strike("broker-kill-wiped", "16", ends=WATCHED)
def broker_kill_wiped(fleet: Fleet, random: Random) -> None:
    """`kill -9` of the broker, started again a second later with nothing in it."""
    fleet.servers.kill_broker()
    time.sleep(1)
    fleet.servers.up()


@strike("broker-kill-kept", "15", ends=WATCHED)
def broker_kill_kept(fleet: Fleet, random: Random) -> None:
    """`kill -9` of the broker, started again a second later with what it held."""
    fleet.servers.kill_broker(keeps=True)
    time.sleep(1)
    fleet.servers.up()


@strike("broker-freeze", "20", ends=WATCHED)
def broker_freeze(fleet: Fleet, random: Random) -> None:
    """SIGSTOP of the broker for 30 s (8 s at short intervals)."""
    with fleet.servers.broker_frozen():
        time.sleep(8 if fleet.fast else 30)


@strike("broker-flushall", "17, 22", ends=WATCHED)
def broker_flushall(fleet: Fleet, random: Random) -> None:
    """FLUSHALL: messages, what is unacknowledged and Celery's own bindings are gone."""
    with fleet.servers.broker() as client:
        client.flushall()


@strike("broker-client-kill", "19", ends=WATCHED)
def broker_client_kill(fleet: Fleet, random: Random) -> None:
    """CLIENT KILL of every connection."""
    with fleet.servers.broker() as client:
        client.client_kill_filter(_type="normal", skipme=True)


@strike("broker-reset", "19, 45", ends=WATCHED)
def broker_reset(fleet: Fleet, random: Random) -> None:
    """RST of every connection to the broker, three times within a second."""
    for _ in range(3):
        fleet.servers.broker_hop.cut()
        time.sleep(0.3)


@strike("broker-black-hole", "18", ends=WATCHED)
def broker_black_hole(fleet: Fleet, random: Random) -> None:
    """Connections to the broker stay open and swallow everything; new ones work at once."""
    fleet.servers.broker_hop.black_hole(new=False)


@strike("broker-half-open", "18", ends=WATCHED)
def broker_half_open(fleet: Fleet, random: Random) -> None:
    """Only the broker's answers are swallowed, on connections that stay open; new ones work at
    once.
    """
    fleet.servers.broker_hop.black_hole("answer", new=False)


@strike("broker-partition", "45", ends=WATCHED)
def broker_partition(fleet: Fleet, random: Random) -> None:
    """Nothing gets through to the broker for 30 s (8 s at short intervals), old connections or
    new.
    """
    fleet.servers.broker_hop.black_hole()
    time.sleep(8 if fleet.fast else 30)
    fleet.servers.broker_hop.forward()


@strike("broker-refuses", "15", ends=WATCHED)
def broker_refuses(fleet: Fleet, random: Random) -> None:
    """Connections to the broker are cut and refused for 5 s."""
    fleet.servers.broker_hop.refuse()
    fleet.servers.broker_hop.cut(reset=False)
    time.sleep(5)
    fleet.servers.broker_hop.forward()


@strike("broker-full", "21", ends=WATCHED)
def broker_full(fleet: Fleet, random: Random) -> None:
    """The broker is at its `maxmemory` for 5 s and refuses every write."""
    with fleet.servers.broker() as client:
        client.config_set("maxmemory", "1")
        time.sleep(5)
        client.config_set("maxmemory", "0")


@strike("broker-slow", "45", ends=WATCHED)
def broker_slow(fleet: Fleet, random: Random) -> None:
    """300 ms more in each direction to and from the broker for 5 s."""
    fleet.servers.broker_hop.slow(delay_seconds=0.3)
    time.sleep(5)
    fleet.servers.broker_hop.forward()


# Messages


@strike("messages-garbage", "23")
def messages_garbage(fleet: Fleet, random: Random) -> None:
    """Every kind of raw garbage and forged messages (`tests/garbage.py`) at the head of the queue,
    valid ones behind.
    """
    with fleet.servers.broker() as client:
        for message in [*GARBAGE.values(), *FORGED.values()]:
            client.rpush(QUEUE, message)


@strike("messages-doubled", "24, 25")
def messages_doubled(fleet: Fleet, random: Random) -> None:
    """Every waiting message doubled, and one a hundred times."""
    with fleet.servers.broker() as client:
        waiting = client.lrange(QUEUE, 0, -1)
        for message in [*waiting, *waiting[:1] * 100]:
            client.rpush(QUEUE, message)


# Postgres


@strike("postgres-kill", "26")
def postgres_kill(fleet: Fleet, random: Random) -> None:
    """`kill -9` of Postgres, started again after 2 s."""
    fleet.servers.kill_postgres()
    time.sleep(2)
    fleet.servers.up()


@strike("postgres-restart", "26")
def postgres_restart(fleet: Fleet, random: Random) -> None:
    """A fast stop of Postgres, started again after 2 s."""
    fleet.servers.kill_postgres(signal.SIGINT)
    time.sleep(2)
    fleet.servers.up()


def _postgres_away(seconds: int) -> Hit:
    def hit(fleet: Fleet, random: Random) -> None:
        fleet.servers.kill_postgres(signal.SIGINT)
        time.sleep(seconds / 20 if fleet.fast else seconds)
        fleet.servers.up()

    return hit


for _seconds in (35, 40, 45, 60, 90, 300):
    _name = f"postgres-away-{_seconds}"
    _what = f"Postgres is stopped for {_seconds} s (1/20 of it at short intervals)"
    STRIKES[_name] = Strike(_name, "26, 45", _what, _postgres_away(_seconds), spares=True)


@strike("postgres-terminate", "26")
def postgres_terminate(fleet: Fleet, random: Random) -> None:
    """`pg_terminate_backend` of every connection, ten times within two seconds."""
    for _ in range(10):
        fleet.servers.terminate_backends()
        time.sleep(0.2)


@strike("postgres-commit-cut", "27")
def postgres_commit_cut(fleet: Fleet, random: Random) -> None:
    """Ten connections are cut right after COMMIT was sent: whether it was done is unknown."""
    hop = fleet.servers.database_hop
    hop.trap(direction="request", at=b"COMMIT", times=10)
    until(lambda: hop.traps_left == 0, "ten commits have been cut")
    hop.forward()


@strike("postgres-freeze", "30, 45")
def postgres_freeze(fleet: Fleet, random: Random) -> None:
    """SIGSTOP of Postgres and all its backends for 30 s (5 s at short intervals)."""
    with fleet.servers.postgres_frozen():
        time.sleep(5 if fleet.fast else 30)


@strike("postgres-read-only", "28")
def postgres_read_only(fleet: Fleet, random: Random) -> None:
    """Every transaction is read-only for 5 s, as after a failover."""
    with fleet.servers.read_only():
        time.sleep(5)


@strike("postgres-full-house", "29")
def postgres_full_house(fleet: Fleet, random: Random) -> None:
    """Others hold every connection Postgres gives, for 5 s."""
    with fleet.servers.no_connections_left():
        time.sleep(5)


@strike("postgres-black-hole", "45")
def postgres_black_hole(fleet: Fleet, random: Random) -> None:
    """Connections to Postgres stay open and swallow everything; new ones work at once."""
    fleet.servers.database_hop.black_hole(new=False)


@strike("postgres-half-open", "45")
def postgres_half_open(fleet: Fleet, random: Random) -> None:
    """Only the answers of Postgres are swallowed, on connections that stay open; new ones work at
    once.
    """
    fleet.servers.database_hop.black_hole("answer", new=False)


@strike("postgres-slow", "30")
def postgres_slow(fleet: Fleet, random: Random) -> None:
    """200 ms more in each direction to and from Postgres for 5 s."""
    fleet.servers.database_hop.slow(delay_seconds=0.2)
    time.sleep(5)
    fleet.servers.database_hop.forward()


@strike("postgres-lock", "30")
def postgres_lock(fleet: Fleet, random: Random) -> None:
    """Somebody holds ACCESS EXCLUSIVE on `jobs` for 8 s."""
    with fleet.servers.administration() as run:
        run("BEGIN")
        run("LOCK TABLE reelvec.jobs IN ACCESS EXCLUSIVE MODE")
        time.sleep(8)
        run("COMMIT")


# Sources and people


@strike("source-cut", "36, 37")
def source_cut(fleet: Fleet, random: Random) -> None:
    """Every connection to the videos is reset, three times within a second."""
    for _ in range(3):
        fleet.footage.hop.cut()
        time.sleep(0.3)


@strike("pause-resume", "66")
def pause_resume(fleet: Fleet, random: Random) -> None:
    """Paused for 2 s, then resumed."""
    with session.transaction(fleet.servers.engine) as connection:
        steering.pause(connection, reason="a test", who="a test", what="")
    time.sleep(2)
    with session.transaction(fleet.servers.engine) as connection:
        steering.resume(connection, backbones=(), who="a test", what="")
