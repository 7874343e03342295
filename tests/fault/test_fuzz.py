"""Five damaged videos of every clip: each ends with frames or with a code, and the samplers go
on. `make soak` runs 5,000.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests import fuzzing
from tests.mutator import MUTATIONS, main, mutated
from tests.trees import Format, format_of, walk

SEEDS = range(5 * len(fuzzing.CLIPS))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return fuzzing.make_corpus(tmp_path_factory.mktemp("corpus"))


def test_damaged_videos_of_every_kind_end_with_frames_or_a_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcomes = fuzzing.fuzz(tmp_path, SEEDS)
    if lost := fuzzing.lost_processes(outcomes):
        with capfd.disabled():
            print("", *lost, sep="\n")
    assert not fuzzing.defects(outcomes)
    endings = Counter(outcome.ending for outcome in outcomes)
    assert endings[fuzzing.FRAMES] >= len(SEEDS) / 5, fuzzing.summary(outcomes)
    for code in ("not_media", "no_video", "truncated", "undecodable", "unsupported_codec"):
        assert endings[code] >= 3, fuzzing.summary(outcomes)


def test_a_defect_of_ours_is_told_from_a_death_of_ffmpeg() -> None:
    def found(ending: str, message: str) -> bool:
        return bool(fuzzing.defects([fuzzing.Outcome(1, "a.mp4", ("cut_end",), ending, message)]))

    assert not found("frames", "")
    assert not found("truncated", "the file ends after 3 of 96 frames: was its upload cut short?")
    assert not found("sampler_timeout", "sampling took more than 20 s")
    assert not found("sampler_crashed", "the sampler process died of SIGSEGV over this video")
    assert found("sampler_crashed", "the sampler process died of exit code 1 over this video")
    assert found("sampler_crashed", "the sampler process died of SIGSYS over this video")
    assert found(
        "sampler_crashed", "the sampler process sent nonsense: duration_seconds: not finite"
    )
    assert found("sampler_defect", "ZeroDivisionError: division by zero")
    assert found("internal", "no sampler process can be started")
    assert found("source_changed (fetch)", "the file was changed while it was read")


def test_a_seed_gives_one_file_and_another_gives_another(corpus: dict[str, bytes]) -> None:
    made = [fuzzing.mutant(corpus, seed) for seed in SEEDS]
    assert made == [fuzzing.mutant(corpus, seed) for seed in SEEDS]
    assert len({mutant.data for _, mutant in made}) > 0.9 * len(SEEDS)
    assert (
        sum(mutant.data == corpus[name] for name, mutant in made) <= len(SEEDS) / 100
    )  # undone by the next mutation
    assert {name for _, mutant in made for name in mutant.story} == set(MUTATIONS)
    assert {name for name, _ in made} == set(corpus)


def test_the_file_of_a_seed_can_be_written(
    corpus: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["23", str(tmp_path / "23")])
    name, mutant = fuzzing.mutant(corpus, 23)
    assert (tmp_path / "23").read_bytes() == mutant.data
    assert name in capsys.readouterr().out


#: Endings of files that are taken apart; others are only damaged as bytes.
TREES = (".mp4", ".mov", ".3gp", ".mkv", ".webm", ".ts", ".avi")
#: How many parts are found at least, and some of them, deep ones among these.
PARTS = {
    "last.mp4": (40, b"avcC"),
    "fragmented.mp4": (40, b"trun"),
    "hevc.mp4": (30, b"hvcC"),
    "h264.mkv": (80, b"\x63\xa2"),
    "vp9.webm": (60, b"\xa3"),
    "mpeg4.avi": (30, b"strf"),
    "mpeg2.ts": (50, b"G@\0\x10"),
}


@pytest.mark.parametrize("name", [name for name in fuzzing.CLIPS if name.endswith(TREES)])
def test_a_file_taken_apart_and_put_together_is_the_same(
    name: str, corpus: dict[str, bytes]
) -> None:
    data = corpus[name]
    form = format_of(data)
    assert form is not None
    assert form.pack(form.parse(data)) == data
    kinds = [node.kind for _, node in walk(form.parse(data))]
    count, kind = PARTS.get(name, (15, kinds[0]))
    assert len(kinds) >= count
    assert kind in kinds
    for seed in range(30):
        damaged = mutated(data, data, seed).data
        assert _taken_apart(form, damaged) == damaged


def _taken_apart(form: Format, data: bytes) -> bytes:
    return form.pack(form.parse(data))
