"""What counts as a video by its name, and as a category by its folder's."""

from __future__ import annotations

import pytest

from producer.categories import load_shipped
from producer.sources.naming import folder_category, is_video_name, matches


@pytest.mark.parametrize(
    ("name", "match", "expected"),
    [
        ("a.mp4", None, True),
        ("A.MKV", None, True),
        ("a.jpg", None, False),
        ("a.jpg", "*", False),
        ("3f9c", None, False),
        ("3f9c", "*", True),
        ("", "*", True),
    ],
)
def test_videos_by_name(name: str, match: str | None, expected: bool) -> None:
    assert is_video_name(name, match) is expected


def test_a_glob_looks_at_the_name_and_at_whole_keys_only_where_told() -> None:
    assert matches("films/a_360p.mp4", "*_360p.mp4", whole=False)
    assert matches("films/a.mp4", "films/*", whole=True)
    assert not matches("films/a.mp4", "films/*", whole=False)
    assert not matches("films/A.mp4", "a*", whole=True)


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("48.0_films", "films"),
        ("Фильмы", "films"),
        ("my own", "my own"),
        ("своё", "своё"),
        ("2024", None),
        ("2024-05-01", None),
        ("year=2024", None),
        ("ab", None),
        ("0f", None),
        ("d41d8cd98f00b204", None),
        ("1b4e28ba-2fa1-11d2-883f-0016d3cca427", None),
        ("facade", "facade"),
    ],
)
def test_folders_that_split_a_store_are_no_categories(name: str, category: str | None) -> None:
    assert folder_category(name, load_shipped()) == category
