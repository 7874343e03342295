"""`enqueue` as a user types it: exact counts, nothing twice, every mistake answered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import redis

from tests.acceptance.test_doctor import BASE_INSTALL
from tests.conftest import Desk
from tests.weights import make_models_dir

CSV = """\
,url,s3_url,parsed_category,manual_category_id,views
0,https://site.example/video/1,https://s3.example/films-bucket/a.mp4,"('Ночной поезд', 'x')",48.0,10
1,https://site.example/video/2,https://s3.example/films-bucket/b.mp4,"('Second', 'x')",48.0,
2,https://site.example/video/3,https://s3.example/films-bucket/c.mp4,"('Cat, sleeping', 'x')",46.0,3
3,https://site.example/video/4,https://s3.example/films-bucket/d.mp4,"('No category', 'x')",,4
4,https://site.example/video/5,,"('No address', 'x')",48.0,5
5,https://site.example/video/6,https://s3.example/films-bucket/f.mp4,"('Half a tuple",48.0,6
6,https://site.example/video/7,https://s3.example/films-bucket/g.mp4,"('Unknown id', 'x')",23.0,7
"""


def counts(desk: Desk, *arguments: str, **variables: str) -> dict[str, int]:
    """Counts of an enqueue with `probe`, from its JSON."""
    done = desk.run("enqueue", *arguments, "--backbone", "probe", "--json", **variables)
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The notebook's folders."""
    for name, files in {"48.0_films": 3, "46.0_animals": 2, "42.0_tv shows": 1}.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(files):
            (tmp_path / "data" / name / f"{index} ночь.mp4").write_bytes(b"x")
        (tmp_path / "data" / name / "notes.txt").write_text("not a video")
    return tmp_path / "data"


def test_a_folder_by_category_then_the_rest_then_nothing(desk: Desk, folder: Path) -> None:
    films = counts(desk, str(folder), "--category", "films")
    assert (films["listed"], films["selected"], films["queued"], films["published"]) == (6, 3, 3, 3)
    for spelling in ("48", "Фильмы"):
        again = counts(desk, str(folder), "--category", spelling)
        assert (
            again["selected"],
            again["queued"],
            again["already_waiting"],
            again["published"],
        ) == (3, 0, 3, 0)
    rest = counts(desk, str(folder))
    assert (rest["selected"], rest["queued"], rest["already_waiting"]) == (6, 3, 3)
    rows = desk.run(
        "reelvec", "db", "sql", "SELECT category, videos FROM progress ORDER BY 1"
    ).stdout
    assert rows.split() == [
        "category",
        "videos",
        "(all)",
        "6",
        "animals",
        "2",
        "films",
        "3",
        "tv-shows",
        "1",
    ]


def test_one_message_per_video_and_nothing_but_its_id(
    desk: Desk, folder: Path, broker_url: str
) -> None:
    counts(desk, str(folder))
    with redis.Redis.from_url(broker_url) as client:
        messages = [json.loads(raw) for raw in client.lrange("reelvec:reelvec", 0, -1)]
    assert len(messages) == 6
    assert all(b"data" not in json.dumps(message).encode() for message in messages), (
        "no paths in the broker"
    )


def test_a_csv_in_the_notebooks_form(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "scraped.csv").write_text(CSV, encoding="utf-8")
    variables = {"AWS_ENDPOINT_URL_S3": "https://s3.example"}
    found = counts(desk, "scraped.csv", **variables)
    assert (found["listed"], found["bad"], found["selected"], found["queued"]) == (7, 3, 4, 4)
    again = counts(desk, "scraped.csv", "--category", "films", **variables)
    assert (again["selected"], again["queued"], again["already_waiting"]) == (2, 0, 2)
    sql = (
        "SELECT uri, coalesce(category, '-'), title, attributes->>'views' FROM videos ORDER BY uri"
    )
    rows = [
        line.split("\t") for line in desk.run("reelvec", "db", "sql", sql).stdout.splitlines()[1:]
    ]
    assert rows == [
        ["s3://films-bucket/a.mp4", "films", "Ночной поезд", "10"],
        ["s3://films-bucket/b.mp4", "films", "Second", r"\N"],
        ["s3://films-bucket/c.mp4", "animals", "Cat, sleeping", "3"],
        ["s3://films-bucket/d.mp4", "-", "No category", "4"],
    ]


def test_bad_rows_are_shown_with_their_line(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "scraped.csv").write_text(CSV, encoding="utf-8")
    told = desk.run("enqueue", "scraped.csv", "--backbone", "probe").stderr
    for line in (6, 7, 8):
        assert f"scraped.csv line {line}: " in told


def test_a_list_on_stdin_and_a_single_file(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    done = desk.run(
        "enqueue",
        "-",
        "--backbone",
        "probe",
        "--json",
        stdin="a.mp4\n# no\nhttps://host.example/b.mp4\n",
    )
    assert json.loads(done.stdout)["queued"] == 2
    assert counts(desk, "a.mp4")["already_waiting"] == 1


def test_limit_and_sample(desk: Desk, folder: Path) -> None:
    assert counts(desk, str(folder), "--limit", "2")["queued"] == 2
    assert counts(desk, str(folder), "--limit", "3")["queued"] == 3, (
        "the first two are known, three more are new"
    )
    drawn = counts(desk, str(folder), "--sample", "4", "--dry-run")
    assert drawn["selected"] == 4


def test_a_dry_run_changes_nothing(desk: Desk, folder: Path) -> None:
    assert counts(desk, str(folder), "--dry-run")["queued"] == 6
    assert desk.run("reelvec", "db", "sql", "SELECT count(*) FROM videos").stdout.split() == [
        "count",
        "0",
    ]
    assert desk.run("reelvec", "db", "sql", "SELECT count(*) FROM encoders").stdout.split() == [
        "count",
        "0",
    ]
    desk.run("enqueue", str(folder), "--backbone", "probe")
    desk.run("reelvec", "db", "sql", "--write", "UPDATE jobs SET state = 'pending'")
    counts(desk, str(folder), "--dry-run")
    states = desk.run("reelvec", "db", "sql", "SELECT DISTINCT state FROM jobs").stdout.split()
    assert states == ["state", "pending"], "nothing that waits is sent either"


def test_without_a_source_it_means_what_is_recorded(desk: Desk, folder: Path) -> None:
    nothing = desk.run("enqueue", "--backbone", "probe", expect=2)
    assert "REELVEC_SOURCE" in nothing.stderr
    assert counts(desk, REELVEC_SOURCE=str(folder))["queued"] == 6
    widened = desk.run(
        "enqueue",
        "--category",
        "films",
        "--backbone",
        "vivit",
        "--weights",
        "random-tiny",
        "--json",
    )
    assert json.loads(widened.stdout)["selected"] == 3


def test_sql_that_changes_rows_says_how_many(desk: Desk, folder: Path) -> None:
    desk.run("enqueue", "data", "--backbone", "probe")
    sql = ("reelvec", "db", "sql", "--write")
    changed = desk.run(*sql, "UPDATE jobs SET attempts = 1 WHERE video_id < 3").stderr
    assert changed.endswith("\ndone: 2 rows\n")
    assert desk.run(*sql, "DELETE FROM attempts").stderr.endswith("\ndone: 0 rows\n")
    assert desk.run(*sql, "CREATE TABLE mine (a int)").stderr.endswith("\ndone\n")


def test_one_more_model_for_those_that_wait_is_said(desk: Desk, folder: Path) -> None:
    desk.run("enqueue", "data", "--backbone", "probe")
    second = ("enqueue", "data", "--backbone", "vivit", "--weights", "random-tiny")
    assert "already waiting 6 (6 of them want one more model now)" in desk.run(*second).stderr
    assert "want one more" not in desk.run(*second).stderr


def test_as_labels_and_never_selects(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.mp4").write_bytes(b"x")
    assert counts(desk, "flat", "--as", "Фильмы")["queued"] == 1
    assert desk.run("reelvec", "db", "sql", "SELECT category FROM videos").stdout.split() == [
        "category",
        "films",
    ]


def test_a_category_that_only_as_knows_is_said_once_and_taken(
    desk: Desk, folder: Path, tmp_path: Path
) -> None:
    """A slip is seen before it is in a million rows, and a name of one's own is nobody's mistake."""
    asked = ("enqueue", "data", "--backbone", "probe", "--json", "--as")
    dry = desk.run(*asked, "filsm", "--dry-run").stderr
    assert dry.count("filsm is a new category; did you mean films?\n") == 1
    first = desk.run(*asked, " kittens ")
    assert first.stderr.count("kittens is a new category\n") == 1
    assert json.loads(first.stdout)["selected"] == 6
    slip = desk.run(*asked, "kitten", "--dry-run").stderr
    assert "kitten is a new category; did you mean kittens?\n" in slip
    for known in ("kittens", "48", "Фильмы"):
        assert "new category" not in desk.run(*asked, known).stderr
    (tmp_path / "pets.txt").write_text("parrots\ncats\n", encoding="utf-8")
    labels = ("--labels", "pets.txt", "--backbone", "x-clip", "--weights", "random-tiny")
    assert "new category" not in desk.run(*asked, "parrots", *labels).stderr
    assert "--as is empty: name a category" in desk.run(*asked, " ", expect=2).stderr


def recorded(desk: Desk) -> list[str]:
    """`category|title` of every video, by its address."""
    sql = "SELECT concat_ws('|', category, title) FROM videos ORDER BY uri"
    return desk.run("reelvec", "db", "sql", sql).stdout.splitlines()[1:]


def test_a_folder_takes_nothing_away_from_a_list(desk: Desk, tmp_path: Path) -> None:
    """Names of files and folders fill what nobody has said; a list and `--as` say it."""
    (tmp_path / "clips" / "space").mkdir(parents=True)
    for name in ("a cat.mp4", "b moon.mp4"):
        (tmp_path / "clips" / "space" / name).write_bytes(b"x")
    (tmp_path / "list.csv").write_text(
        "path,title,category\nclips/space/a cat.mp4,Кот,documentary\nclips/space/b moon.mp4,,\n",
        encoding="utf-8",
    )
    said, filled = ["documentary|Кот", ""], ["documentary|Кот", "space|b moon"]
    desk.run("enqueue", "list.csv", "--backbone", "probe")
    assert recorded(desk) == said
    done = desk.run("enqueue", "clips", "--backbone", "probe", "--json")
    found = json.loads(done.stdout)
    assert (found["recategorised"], found["retitled"], found["category_kept"]) == (0, 0, 1)
    assert "1 video keeps the category that was recorded before" in done.stderr
    assert "--category has chosen" not in done.stderr
    assert recorded(desk) == filled
    for source in ("clips/space/a cat.mp4", "list.csv"):
        again = counts(desk, source)
        assert (again["recategorised"], again["retitled"], again["category_kept"]) == (0, 0, 0)
    done = desk.run("enqueue", "-", "--backbone", "probe", stdin="clips/space/a cat.mp4\n")
    assert "than was recorded" not in done.stderr
    assert recorded(desk) == filled
    done = desk.run("enqueue", "clips", "--as", "pets", "--backbone", "probe", "--json")
    found = json.loads(done.stdout)
    assert (found["recategorised"], found["retitled"], found["category_kept"]) == (2, 0, 0)
    assert "2 videos have another category than was recorded before, because a" in done.stderr
    assert recorded(desk) == ["pets|Кот", "pets|b moon"]
    counts(desk, "clips")
    assert recorded(desk) == ["pets|Кот", "pets|b moon"]


@pytest.mark.parametrize("sources", [("data", "data/films"), ("data/films", "data")])
def test_the_first_of_two_folders_that_hold_a_video_gives_its_category(
    desk: Desk, tmp_path: Path, sources: tuple[str, str]
) -> None:
    """By names alone it is another one from each; which one is recorded never changes unsaid."""
    (tmp_path / "data" / "films" / "new").mkdir(parents=True)
    (tmp_path / "data" / "films" / "new" / "a.mp4").write_bytes(b"x")
    first = "films" if sources[0] == "data" else "new"
    for at, source in enumerate((*sources, *sources)):
        done = desk.run("enqueue", source, "--backbone", "probe", "--json")
        found = json.loads(done.stdout)
        assert recorded(desk) == [f"{first}|a"]
        assert (found["recategorised"], found["category_kept"]) == (0, at % 2)
        kept = "1 video keeps the category that was recorded before" in done.stderr
        assert kept == (source != sources[0])
    desk.run("reelvec", "db", "sql", "--write", "DELETE FROM videos")
    counts(desk, *sources)
    assert recorded(desk) == [f"{first}|a"], "in one command, too"


def test_a_list_replaces_what_a_folder_told(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "clips" / "space").mkdir(parents=True)
    (tmp_path / "clips" / "space" / "cat.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text(
        "path,title,category\nclips/space/cat.mp4,Кот,documentary\n", encoding="utf-8"
    )
    counts(desk, "clips")
    assert recorded(desk) == ["space|cat"]
    dry = desk.run("enqueue", "list.csv", "--backbone", "probe", "--dry-run").stderr
    assert "1 video would have another title than was recorded before" in dry
    assert recorded(desk) == ["space|cat"]
    done = desk.run("enqueue", "list.csv", "--backbone", "probe", "--json")
    found = json.loads(done.stdout)
    assert (found["recategorised"], found["retitled"], found["category_kept"]) == (1, 1, 0)
    assert "1 video has another category than was recorded before, because a list" in done.stderr
    assert "1 video has another title than was recorded before, because a list" in done.stderr
    assert recorded(desk) == ["documentary|Кот"]


def test_a_list_and_its_folder_in_one_enqueue(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "clips" / "space").mkdir(parents=True)
    (tmp_path / "clips" / "space" / "cat.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text(
        "path,title,category\nclips/space/cat.mp4,Кот,documentary\n", encoding="utf-8"
    )
    both = counts(desk, "list.csv", "clips")
    assert (both["listed"], both["selected"], both["duplicates"]) == (2, 1, 1)
    assert recorded(desk) == ["documentary|Кот"]


def test_the_help_says_what_a_second_run_changes(desk: Desk) -> None:
    told = " ".join(desk.run("enqueue", "--help").stdout.split())
    assert "the names of its file and folder only fill in what is missing" in told


def test_category_chooses_by_the_folder_and_says_what_is_recorded(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "clips" / "space").mkdir(parents=True)
    (tmp_path / "clips" / "space" / "cat.mp4").write_bytes(b"x")
    counts(desk, "clips/space/cat.mp4", "--as", "documentary")
    done = desk.run("enqueue", "clips", "--category", "space", "--backbone", "probe", "--json")
    found = json.loads(done.stdout)
    assert (found["selected"], found["category_kept"]) == (1, 1)
    assert "1 video keeps the category that was recorded before" in done.stderr
    assert "without a SOURCE, and in other commands, it means the category that is" in done.stderr
    assert counts(desk, "--category", "documentary")["selected"] == 1
    counts(desk, "clips", "--category", "space", "--as", "space")
    assert counts(desk, "--category", "space")["selected"] == 1


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (("data", "--category", "fims"), 2, "films"),
        (("data", "--backbone", "vivitt"), 2, "vivit"),
        (("data", "--weights", "random"), 2, "random-tiny"),
        (("data", "--sampling", "all"), 2, "uniform"),
        (("nowhere",), 2, "nowhere"),
        (("data", "--labels", "nolabels.csv"), 2, "nolabels.csv"),
        (("data", "--limit", "2", "--sample", "2"), 2, "give only one of them"),
        (("data", "--nonsense",), 2, "nonsense"),
        (("--category", "films"), 2, "SOURCE"),
        (("data", "--recheck", "--force", "--backbone", "probe"), 2, "not with --backbone, --force"),
    ],
)  # fmt: skip
def test_mistakes_are_answered(
    desk: Desk, folder: Path, arguments: tuple[str, ...], exit_code: int, told: str
) -> None:
    done = desk.run("enqueue", *arguments, expect=exit_code)
    assert told in done.stderr
    assert desk.run("reelvec", "db", "sql", "SELECT count(*) FROM videos").stdout.split() == [
        "count",
        "0",
    ]


@pytest.mark.parametrize("arguments", [(), ("nowhere",), ("data", "nowhere")])
def test_what_is_refused_leaves_no_encoder_behind(
    desk: Desk, folder: Path, arguments: tuple[str, ...]
) -> None:
    desk.run("enqueue", *arguments, "--backbone", "probe", expect=2)
    assert desk.run("reelvec", "db", "sql", "SELECT encoder FROM encoders").stdout == "encoder\n"


def test_a_category_of_the_users_own_is_known_when_a_video_has_it(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "mine" / "kittens").mkdir(parents=True)
    (tmp_path / "mine" / "kittens" / "a.mp4").write_bytes(b"x")
    assert counts(desk, "mine", "--category", "kittens")["queued"] == 1
    assert counts(desk, "--category", "kittens")["already_waiting"] == 1


def test_a_category_that_no_listed_video_has_is_told_with_those_there_are(
    desk: Desk, folder: Path, tmp_path: Path
) -> None:
    asked = ("enqueue", "data", "--backbone", "probe", "--category")
    told = desk.run(*asked, "music", "--category", "sport").stderr
    assert (
        "--category music or sport: none of 6 listed videos has it; their categories: tv-shows, "
        "animals, films\n" in told
    )
    assert "their categories" not in desk.run(*asked, "films").stderr
    told = desk.run("enqueue", "--category", "music", "--backbone", "probe", expect=2).stderr
    assert "no recorded video has category 'music'; they have: films. Name a SOURCE" in told
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.mp4").write_bytes(b"x")
    flat = ("enqueue", "flat", "--backbone", "probe", "--category", "films")
    assert "none of 1 listed video has it; their categories: none" in desk.run(*flat).stderr


def test_a_category_of_the_label_file_or_of_ones_own_is_known_and_suggested(
    desk: Desk, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "pets.txt").write_text("parrots\ncats\n", encoding="utf-8")
    labels = ("--labels", "pets.txt", "--backbone", "x-clip", "--weights", "random-tiny")
    asked = ("enqueue", "data", *labels, "--category")
    told = desk.run(*asked, "cat", expect=2).stderr
    assert "no category 'cat'; did you mean cats, art?" in told
    told = desk.run(*asked, "cats").stderr
    assert "--category cats: none of 6 listed videos has it; their categories: " in told
    counts(desk, "data", "--as", "kittens")
    told = desk.run("enqueue", "--backbone", "probe", "--category", "kitten", expect=2).stderr
    assert "no category 'kitten'; did you mean kittens?" in told
    told = desk.run("reelvec", "retry", "--category", "kitten", expect=2).stderr
    assert "no recorded video has category 'kitten'; did you mean kittens?" in told


def test_an_unknown_category_is_told_with_the_known_ones(desk: Desk, folder: Path) -> None:
    told = desk.run("enqueue", "data", "--category", "qqqqq", expect=2).stderr
    assert "no category 'qqqqq'; the known ones are animals, anime, art, " in told
    assert "various, video-games. Your videos have animals, films, tv-shows." in told
    assert "rutube.csv" not in told


def test_local_files_of_a_list_that_are_not_there_are_told_once(
    desk: Desk, folder: Path, tmp_path: Path
) -> None:
    asked = ("enqueue", "-", "--backbone", "probe")
    told = desk.run(*asked, stdin="a.mp4\nb.mp4\nc.mp4\ns3://bucket/a.mp4\n").stderr
    assert (
        "warning: 3 of 3 local files in the list are not on this machine, for example "
        f"{tmp_path}/a.mp4. That is well if the workers have them there; else" in told
    )
    assert told.count("not on this machine") == 1
    assert "queued 4" in told, "the workers may have them"
    there = "".join(f"{path}\n" for path in folder.rglob("*.mp4"))
    for stdin in (there, "s3://bucket/b.mp4\n"):
        assert "not on this machine" not in desk.run(*asked, stdin=stdin).stderr
    assert "not on this machine" not in desk.run("enqueue", "data", "--backbone", "probe").stderr
    many = "".join(f"/nowhere/{number}.mp4\n" for number in range(1_100))
    assert "1,000 of the first 1,000 local files in" in desk.run(*asked, stdin=many).stderr


def test_non_commercial_weights_are_named_or_refused(desk: Desk, folder: Path) -> None:
    arguments = ("enqueue", str(folder), "--backbone", "videomae", "--weights", "random-tiny")
    told = desk.run(*arguments, "--dry-run").stderr
    assert "non-commercial" in told
    assert "MEAN NOTHING" in told.upper()
    assert "videomae" in desk.run(*arguments, expect=78, REELVEC_LICENSE="commercial").stderr


def test_a_prompt_that_is_too_long_is_told_before_any_video_meets_it(
    desk: Desk, tmp_path: Path
) -> None:
    models = make_models_dir(tmp_path / "models", ["x-clip"])
    (tmp_path / "tags.csv").write_text(
        f"category,prompt\ncats,a cat\ndogs,{'very ' * 40}long\n", encoding="utf-8"
    )
    arguments = ("enqueue", "s3://bucket/a.mp4", "--backbone", "x-clip", "--labels", "tags.csv")
    done = desk.run(*arguments, expect=2, REELVEC_MODELS_DIR=str(models))
    assert "tokens long; X-CLIP reads 77" in done.stderr
    desk.run(*arguments, REELVEC_MODELS_DIR=str(tmp_path / "elsewhere"))


def test_labels_that_no_chosen_model_scores_are_refused(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text(
        "category,prompt\ncats,a cat\ndogs,a dog\n", encoding="utf-8"
    )
    asked = ("enqueue", "s3://bucket/a.mp4", "--labels", "tags.csv")
    told = desk.run(*asked, "--backbone", "probe", "--backbone", "vivit", expect=2).stderr
    assert (
        "--labels tags.csv: nothing would score them, for no model reads text of those chosen (probe, vivit);"
        in told
    )
    assert "give --backbone x-clip (its weights come with reelvec models fetch x-clip) or" in told
    (tmp_path / "models" / "timesformer").mkdir(parents=True)  # the only weights of this machine
    here = {"REELVEC_MODELS_DIR": str(tmp_path / "models")}
    told = desk.run(*asked, expect=2, **here).stderr
    assert "(timesformer: the default, by the weights that this machine has)" in told
    tiny = ("--weights", "random-tiny")
    told = desk.run(*asked, *tiny, "--backbone", "probe", expect=2).stderr
    assert "give --backbone x-clip or --backbone siglip2, or leave --labels out" in told
    assert desk.run("reelvec", "db", "sql", "SELECT count(*) FROM videos").stdout.split()[1] == "0"
    desk.run(*asked, "--backbone", "probe", "--backbone", "x-clip")


def test_a_label_file_says_what_is_scored_and_no_videos_category(
    desk: Desk, folder: Path, tmp_path: Path
) -> None:
    categories = "SELECT string_agg(coalesce(category, '-'), ',' ORDER BY uri) FROM videos"
    counts(desk, str(folder))
    before = desk.run("reelvec", "db", "sql", categories).stdout
    labels = tmp_path / "tags.csv"
    arguments = (
        "enqueue",
        str(folder),
        "--backbone",
        "x-clip",
        "--weights",
        "random-tiny",
        "--labels",
        "tags.csv",
    )
    labels.write_text("category,prompt,id\ncats,a cat,48\ndogs,a dog,900\n", encoding="utf-8")
    told = desk.run(*arguments).stderr
    assert "another category" not in told
    assert "not x-clip" not in told
    assert desk.run("reelvec", "db", "sql", categories).stdout == before
    labels.write_text("category,prompt\ncats,a cat\ndogs,two dogs\n", encoding="utf-8")
    told = desk.run(*arguments).stderr
    assert re.search(
        r"tagger x-clip[a-z-]*/tags-[0-9a-f]{8}, not x-clip[a-z-]*/tags: the labels have changed "
        r"since",
        told,
    )
    told = desk.run("enqueue", str(folder), "--backbone", "probe", "--as", "cats").stderr
    assert "6 videos have another category than was recorded before" in told


def test_a_glob_that_fits_nothing_says_so_by_itself(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(
        "s3://bucket/a.mp4\ns3://bucket/../b.mp4\ns3://bucket/c.mp4\n", encoding="utf-8"
    )
    told = desk.run("enqueue", "list.txt", "--backbone", "probe", "--match", "*_360p.mp4").stderr
    assert "--match '*_360p.mp4' matches none of 2 videos, for example 'a.mp4'" in told
    assert "were refused" not in told
    some = desk.run("enqueue", "list.txt", "--backbone", "probe", "--match", "a.*").stderr
    assert "matches none" not in some
    (tmp_path / "empty").mkdir()
    none = desk.run("enqueue", "empty", "--backbone", "probe").stderr
    assert "no video found: names of videos end in" in none


def test_what_comes_next_and_what_context_takes_are_said(desk: Desk, folder: Path) -> None:
    asked = ("enqueue", str(folder), "--backbone", "x-clip", "--weights", "random-tiny")
    first = desk.run(*asked, "--keep-context").stderr
    assert re.search(r"context: \d\.\d MB a video, 0\.0 GB of Postgres for the 6 queued", first)
    assert "--force" not in first, "nothing is done yet"
    assert "next: reelvec worker (on every node), reelvec status" in first
    kept = desk.run("reelvec", "db", "sql", "SELECT DISTINCT keep_context FROM reelvec.jobs")
    assert kept.stdout.split()[1:] == ["True"]
    again = desk.run(*asked).stderr
    assert "context:" not in again
    assert "next:" not in again, "nothing new was queued"


def test_several_backbones_in_one_option_are_told_how(desk: Desk) -> None:
    told = desk.run("enqueue", "s3://bucket/a.mp4", "--backbone", "vivit,x-clip", expect=2).stderr
    assert "repeat the option: --backbone vivit --backbone x-clip" in told


def test_what_an_older_version_sampled_is_named_and_looked_at_again(
    desk: Desk, folder: Path
) -> None:
    counts(desk, str(folder))
    desk.run(
        "reelvec", "db", "sql", "--write", "UPDATE jobs SET state = 'done', finished_at = now()"
    )
    base = desk.folder / "base"  # without a worker's packages, each of which doctor would try
    base.mkdir()
    (base / "sitecustomize.py").write_text(BASE_INSTALL)
    told = desk.run("reelvec", "doctor", "--data", expect=1, PYTHONPATH=str(base)).stdout
    assert (
        "6 done videos were sampled before encryption and damage were looked for, for example "
        "video 1" in told
    )
    assert "enqueue --recheck" in told
    dry = desk.run("enqueue", "--recheck", "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"rechecked": 6, "published": 0}
    films = desk.run("enqueue", "--recheck", str(folder / "48.0_films"), "--json")
    assert json.loads(films.stdout) == {"rechecked": 3, "published": 3}
    rest = desk.run("enqueue", "--recheck", "--category", "animals", "--json")
    assert json.loads(rest.stdout) == {"rechecked": 2, "published": 2}
    failed = (
        "UPDATE jobs SET state = 'failed', error_code = 'not_media', error = 'flv', finished_at = "
        "now()"
    )
    desk.run("reelvec", "db", "sql", "--write", f"{failed} WHERE state = 'done'")
    retried = desk.run("reelvec", "retry", "--outdated", "--json")
    assert json.loads(retried.stdout) == {"retried": 1}
    actions = "SELECT action, what, videos FROM actions ORDER BY 1, videos"
    rows = [
        line.split("\t")
        for line in desk.run("reelvec", "db", "sql", actions).stdout.splitlines()[1:]
    ]
    assert rows == [["recheck", "--category animals", "2"], ["recheck", str(folder / "48.0_films"), "3"],
                    ["retry", "--outdated", "1"]]  # fmt: skip
