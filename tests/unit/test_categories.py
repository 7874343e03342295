"""The shipped categories are the notebook's; users bring their own; bad label files are named with
their line.
"""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from db.errors import UsageError
from producer.categories import (
    Categories,
    Category,
    categories_from_label_file,
    label_sets_from_file,
    label_sets_shipped,
    load_shipped,
)

WITHOUT_ID = ["sport", "humor", "lifestyle", "realty", "health", "nature"]
NOTEBOOK_FOLDERS = [
    "48.0_films",
    "19.0_serials",
    "7.0_movie",
    "29.0_design",
    "46.0_animals",
    "45.0_various",
    "5.0_interview",
    "42.0_tv shows",
    "35.0_garden and vegetable garden",
]


def write(folder: Path, text: str | bytes, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def slug_of(categories: Categories, text: str) -> str | None:
    found = categories.find(text)
    return found.slug if found else None


class TestShipped:
    def test_has_the_notebooks_47_in_its_order(self) -> None:
        slugs = [category.slug for category in load_shipped().all]
        assert len(slugs) == len(set(slugs)) == 47
        assert slugs[0] == "auto-moto"
        assert slugs[26] == "design"
        assert slugs[46] == "bloggers"

    @pytest.mark.parametrize("folder", NOTEBOOK_FOLDERS)
    def test_ids_agree_with_the_notebooks_folders(self, folder: str) -> None:
        found = load_shipped().find(folder)
        assert found is not None
        assert f"{found.id}.0_{found.names[0].lower()}" == folder

    def test_ids_keep_their_position_up_to_19_and_are_three_more_from_design_on(self) -> None:
        for position, category in enumerate(load_shipped().all):
            expected = (
                position if position < 20 else None if category.slug in WITHOUT_ID else position + 3
            )
            assert category.id == expected, category.slug
        assert [category.slug for category in load_shipped().all[20:26]] == WITHOUT_ID

    def test_scores_three_sets_with_the_notebooks_spelling(self) -> None:
        english, russian, names = label_sets_shipped()
        assert [english.name, russian.name, names.name] == ["en", "ru", "names"]
        at = english.prompt_categories.index("hunting-and-fishing")
        assert english.prompts[at] == "Video belongs to category 'Hunting and fishing'"
        assert russian.prompts[at] == "Видео принадлежит категории 'Охота_и_рыбалка'"
        assert names.prompts[at] == "Hunting and fishing"
        for labels in (english, russian, names):
            assert labels.categories == tuple(category.slug for category in load_shipped().all)
        assert len({english.digest, russian.digest, names.digest}) == 3


class TestNumbered:
    """A label file lends its ids to sources, and nothing else."""

    def test_only_its_ids_count_and_only_where_they_contradict_nothing(self) -> None:
        labels = (
            Category("dogs", 900, ("Dogs",)),
            Category("cats", 48, ()),
            Category("Serials", 19, ()),
            Category("tv-shows", 42, ()),
        )
        categories = replace(load_shipped(), numbered=labels)
        assert slug_of(categories, "900") == "dogs"
        assert slug_of(categories, "dogs") is None, "a folder of this name keeps its name"
        assert slug_of(categories, "900_dogs") is None
        assert slug_of(categories, "48") is None, "films or cats: the source has to say"
        assert slug_of(categories, "48.0_films") == "films"
        assert slug_of(categories, "42.0") == "tv-shows"
        assert slug_of(categories, "19") == "serials", "another spelling of the same"


class TestFind:
    @pytest.mark.parametrize(
        ("text", "slug"),
        [
            ("films", "films"),
            ("Films", "films"),
            (" FILMS ", "films"),
            ("фильмы", "films"),
            ("48", "films"),
            ("48.0", "films"),
            ("0", "auto-moto"),
            ("48.0_films", "films"),
            ("48_films", "films"),
            ("48.0_Фильмы", "films"),
            ("tv-shows", "tv-shows"),
            ("TV shows", "tv-shows"),
            ("42.0_tv shows", "tv-shows"),
            ("Охота_и_рыбалка", "hunting-and-fishing"),
            ("охота и рыбалка", "hunting-and-fishing"),
            (unicodedata.normalize("NFD", "Лайфстайл"), "lifestyle"),
            ("23.0_sport", "sport"),
        ],
    )
    def test_knows_every_spelling(self, text: str, slug: str) -> None:
        assert slug_of(load_shipped(), text) == slug

    @pytest.mark.parametrize(
        "text", ["", "film", "20", "28.0", "50", "48.5", "-1", "48.0_serials", "99_films", "48.0_"]
    )
    def test_guesses_nothing(self, text: str) -> None:
        assert load_shipped().find(text) is None

    @pytest.mark.parametrize(
        ("text", "nearest"),
        [
            ("film", "films"),
            ("48.0_flims", "films"),
            ("сериал", "serials"),
            ("tv", "tv-shows"),
            ("garden", "garden-and"),
        ],
    )
    def test_suggests_the_nearest(self, text: str, nearest: str) -> None:
        suggestions = load_shipped().suggest(text)
        assert suggestions[0].startswith(nearest)
        assert len(suggestions) <= 3

    def test_suggests_what_begins_with_it_before_what_is_like_it(self) -> None:
        labels = replace(load_shipped(), numbered=(Category("cats", None, ()),))
        assert load_shipped().suggest("cat")[0] == "art"
        assert labels.suggest("cat") == ["cats", "art"]
        assert load_shipped().suggest("cat", ["catwalks", "cats"]) == ["cats", "catwalks", "art"]
        assert load_shipped().suggest("film", ["FILMS"]) == ["films"], "the shipped name of two"

    def test_tells_a_slip_from_a_name_of_ones_own(self) -> None:
        for slip, meant in (("filsm", "films"), ("фильм", "films"), ("Kitten", "kittens")):
            assert load_shipped().slip_of(slip, ["kittens"]) == meant
        for own in ("cats", "pets", "games", "drama", "", "qqqqq"):
            assert load_shipped().slip_of(own) is None, own

    def test_suggests_nothing_for_nonsense(self) -> None:
        assert load_shipped().suggest("qqqqq") == []
        assert load_shipped().suggest("") == []


class TestLabelFile:
    def test_csv_may_hold_several_prompts_of_one_category(self, tmp_path: Path) -> None:
        path = write(
            tmp_path,
            "\ufeffid,Category,note,PROMPT,name\r\n"
            '7,cats,x,"a cat, sleeping",Кошки\r\n'
            "\r\n"
            ",cats,,a cat playing,Kitties\r\n"
            "8.0,dogs,,a dog,\r\n",
        )
        labels = label_sets_from_file(path)
        assert labels.name == "mine"
        assert labels.prompts == ("a cat, sleeping", "a cat playing", "a dog")
        assert labels.prompt_categories == ("cats", "cats", "dogs")
        categories = categories_from_label_file(path)
        assert [(one.slug, one.id, one.names) for one in categories.all] == [
            ("cats", 7, ("Кошки", "Kitties")),
            ("dogs", 8, ()),
        ]
        for text in ("CATS", "7", "кошки", "kitties", "7.0_cats"):
            assert slug_of(categories, text) == "cats"
        assert slug_of(categories, "films") is None

    def test_text_file_has_one_name_a_line(self, tmp_path: Path) -> None:
        path = write(tmp_path, "# mine\n\n Cats, big and small \nDogs\r\n#Birds\n", "pets.csv")
        labels = label_sets_from_file(path)
        assert labels.name == "pets"
        assert labels.prompts == labels.prompt_categories == ("Cats, big and small", "Dogs")
        assert slug_of(categories_from_label_file(path), "dogs") == "Dogs"

    def test_the_header_decides_not_the_file_name(self, tmp_path: Path) -> None:
        path = write(tmp_path, "# comment\nprompt,category\na cat,cats\na dog,dogs\n", "pets.txt")
        assert label_sets_from_file(path).categories == ("cats", "dogs")

    @pytest.mark.parametrize("begin", ["category;prompt\n", "sep=;\nCategory;Prompt\n"])
    def test_what_separates_the_columns_of_a_list_does_so_here(
        self, tmp_path: Path, begin: str
    ) -> None:
        path = write(tmp_path, f"{begin}cats;a cat, asleep\ndogs;a dog\n", "pets.csv")
        labels = label_sets_from_file(path)
        assert (labels.prompts, labels.prompt_categories) == (
            ("a cat, asleep", "a dog"),
            ("cats", "dogs"),
        )
        tabs = write(tmp_path, "category\tprompt\ncats\ta cat\ndogs\ta dog\n", "pets.tsv")
        assert label_sets_from_file(tabs).prompts == ("a cat", "a dog")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no labels"),
            ("# only a comment\n\n", "no labels"),
            ("one\n", "1 category"),
            ("category,prompt\n", "0 category"),
            ("category,prompt\na,x\na,y\n", "1 category"),
            ("category,prompt\na,x\nb,\n", "line 3: no prompt"),
            ("category,prompt\na,x\nb\n", "line 3: no prompt"),
            ("#\ncategory,prompt\na,x\n,y\n", "line 4: no category"),
            ('category,prompt\na,"x\ny"\na,z\nb,\n', "line 5: no prompt"),
            ("#\ncategory,prompt\na,x\nb,y\na,x\n", "line 5: prompt 'x' of 'a' stands here twice"),
            ("a\nb\n\na\n", "line 4: prompt 'a'"),
            ("category,id,name\na,1,x\n", "line 1: no column prompt"),
            ("category;name\na;x\nb;y\n", "line 1: no column prompt (found: category, name)"),
            ("category,prompt,id\na,x,one\nb,y,\n", "line 2: 'one' is not a category id"),
            ("category,prompt,id\na,x,1\nb,y,1\n", "line 3: id 1 belongs to 'a'"),
            ("category,prompt,id\na,x,1\na,y,2\nb,z,\n", "line 3: 'a' has id 1"),
            ("Cats\ndogs\ncats\n", "line 3: 'cats' was written 'Cats' in line 1"),
            ("a\nb\0\n", "line 2: a NUL"),
            ("a\nb\n".encode("utf-16"), "line 1: not UTF-8"),
            ("a\nкошки\n".encode("cp1251"), "line 2: not UTF-8"),
            ("category,prompt\na," + "x" * (1 << 20) + "y" + "\nb,y\n", "line 2: field larger"),
        ],
    )
    def test_a_bad_file_is_refused_with_its_line(
        self, tmp_path: Path, text: str | bytes, message: str
    ) -> None:
        path = write(tmp_path, text)
        for read in (label_sets_from_file, categories_from_label_file):
            with pytest.raises(UsageError) as caught:
                read(path)
            assert message in str(caught.value)
            assert str(path) in str(caught.value)

    def test_a_missing_file_and_a_folder_are_refused(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.csv", tmp_path):
            with pytest.raises(UsageError, match="--labels takes"):
                label_sets_from_file(path)
