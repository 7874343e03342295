"""Where the demonstration keeps its data, and what it calls right."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import demo.__main__ as demonstration
from db.stack import local_stack
from demo import clips, judgement
from demo.photographs import PHOTOGRAPHS
from workers.backbones import imagenet


def test_each_checkout_has_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REELVEC_DATA_DIR", raising=False)
    folders = {}
    for checkout in ("one/reelvec", "two/reelvec"):
        monkeypatch.setattr(
            demonstration, "__file__", str(tmp_path / checkout / "demo" / "__main__.py")
        )
        folders[checkout] = demonstration.data_folder()
        assert demonstration.data_folder() == folders[checkout], "and finds it again"
    assert len(set(folders.values())) == 2
    assert all(folder.name.startswith("demo-reelvec-") for folder in folders.values())
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path / "mine"))
    assert demonstration.data_folder().parent == tmp_path / "mine"


def test_it_is_removed_and_nothing_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path))
    folder = demonstration.data_folder()
    (folder / "videos").mkdir(parents=True)
    (tmp_path / "passwords.json").touch()
    stopped: list[Path] = []
    monkeypatch.setattr(local_stack.LocalStack, "down", lambda self: stopped.append(self.data_dir))
    demonstration.remove()
    demonstration.remove()
    assert stopped == [folder]
    assert list(tmp_path.iterdir()) == [tmp_path / "passwords.json"]


def test_the_command_that_it_prints_removes_it_from_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REELVEC_DATA_DIR", str(tmp_path))
    folder = demonstration.data_folder()
    videos = folder / "videos"
    videos.mkdir(parents=True)
    demonstration.say_end(folder, videos, [])
    said = capsys.readouterr().err.splitlines()
    done = subprocess.run(
        said[-1],
        shell=True,
        cwd=tmp_path,
        # as the lines before it say
        env={**os.environ, "REELVEC_DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.split() == f"removed the demonstration in {folder}".split()
    assert not folder.exists()
    assert tmp_path.exists()


def test_every_photograph_is_there_and_may_be_called_what_the_tagger_knows() -> None:
    known = set(imagenet.labels().categories)
    for one in PHOTOGRAPHS:
        assert one.path.is_file(), "in scikit-image's own wheel"
        assert one.license
        assert set(one.accepted) <= known, one.title
    assert [Path(clip.name).stem for _, clip in clips.PHOTOGRAPHED] == judgement.titles()


def test_a_pan_moves_and_a_zoom_comes_nearer() -> None:
    (photograph, pan), (_, zoom) = clips.PHOTOGRAPHED[:2]
    for clip in (pan, zoom):
        frames = list(clips._moving(photograph, clip))
        assert len(frames) == 100
        assert {frame.shape for frame in frames} == {(300, 400, 3)}
        assert (frames[0] != frames[-1]).mean() > 0.5
    middle = next(iter(clips._moving(photograph, zoom)))
    assert middle.std() > 20, "no empty picture"


def judged(*, wrong: tuple[str, ...] = (), lost: tuple[str, ...] = ()) -> tuple[bool, list[str]]:
    """The verdict where accepted tags are fifth, of clips in `wrong` sixth, and neighbours of those
    in `lost` are others.
    """
    others = ["bucket", "tub", "vat", "pot"]
    tags = {
        f"{one.title} {movement}": [*others, one.accepted[-1]]
        for one in PHOTOGRAPHS
        for movement in ("pan", "zoom")
    }
    tags |= {title: [*others, "pail", tags[title][-1]] for title in wrong}
    nearest = {title: judgement.twin(title) for title in judgement.titles()}
    return judgement.verdict(tags, nearest | dict.fromkeys(lost, "two koi"))


def test_what_is_right_is_said_in_numbers_and_names() -> None:
    tags = "photographs have a right tag among the first five of both clips"
    twins = "clips have their photograph's other clip as nearest neighbour"
    many = len(PHOTOGRAPHS)
    everything = [f"{many} of {many} {tags}", f"{2 * many} of {2 * many} {twins}"]
    assert judged() == (True, everything)
    one = f"{many - 1} of {many} {tags}, not: cat"
    assert judged(wrong=("cat pan", "cat zoom")) == (True, [one, everything[1]])
    two = f"{many - 2} of {many} {tags}, not: coffee, cat"
    assert judged(wrong=("cat pan", "coffee zoom")) == (False, [two, everything[1]])
    stranger = f"{2 * many - 1} of {2 * many} {twins}, not: cat zoom"
    assert judged(lost=("cat zoom",)) == (False, [everything[0], stranger])
    assert not judgement.verdict({}, {})[0]
