"""CSV manifests: columns by name, ids as pandas writes them, and bad rows that do not stop the good
ones.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from db.errors import UsageError
from producer.categories import load_shipped
from producer.sources.csvlists import read_table
from producer.sources.manifest import Context, RowError, VideoRow


def read(folder: Path, text: str | bytes) -> list[VideoRow | RowError]:
    path = folder / "videos.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_table(path, Context(folder, load_shipped(), "https://storage.example.net")))


def read_one(folder: Path, text: str | bytes) -> VideoRow:
    (row,) = read(folder, text)
    assert isinstance(row, VideoRow), row
    return row


def errors(rows: list[VideoRow | RowError]) -> list[tuple[str, str]]:
    return [(row.where, row.reason) for row in rows if isinstance(row, RowError)]


def test_the_notebooks_own_file(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        ",url,s3_url,manual_category_id,parsed_category,views\n"
        "0,https://page.org/1,https://storage.example.net/bucket/a.mp4,48.0,\"('Кино', "
        "'Фильмы')\",10\n"
        "1,https://page.org/2,https://storage.example.net/bucket/b.mp4,,\"('B', None)\",nan\n"
        "2,https://page.org/3,,48.0,\"('C',)\",\n"
        "3,https://page.org/4,https://storage.example.net/bucket/d.mp4,23.0,\"('D',)\",\n",
    )
    assert rows[0] == VideoRow(
        "s3://bucket/a.mp4",
        category="films",
        title="Кино",
        attributes={"url": "https://page.org/1", "views": "10"},
    )
    assert rows[1] == VideoRow(
        "s3://bucket/b.mp4", title="B", attributes={"url": "https://page.org/2"}
    )
    assert errors(rows) == [
        ("videos.csv line 4", "no address in column s3_url"),
        (
            "videos.csv line 5",
            "category id 23.0 belongs to no known category; give the category's name instead",
        ),
    ]


def test_every_known_column(tmp_path: Path) -> None:
    row = read_one(
        tmp_path,
        "\ufeffURI,ID,Category,Title,Group,Uploaded At\r\n"
        ' s3://bucket/a.mp4 , x1 ,TV shows,"A, B","channel ""7""",2024-01-01\r\n',
    )
    assert row == VideoRow(
        "s3://bucket/a.mp4",
        "x1",
        "tv-shows",
        "A, B",
        'channel "7"',
        attributes={"Uploaded At": "2024-01-01"},
    )


def test_of_two_columns_for_one_thing_the_first_with_a_value_counts(tmp_path: Path) -> None:
    header = "s3_url,uri,id,external_id,manual_category_id,category,parsed_category,title\n"
    first, second = read(
        tmp_path,
        header + "s3://bucket/s.mp4,s3://bucket/u.mp4,1,mine,48.0,own words,broken(,T\n"
        "s3://bucket/s.mp4,nan,1,,48.0,,\"('P',)\",\n",
    )
    assert first == VideoRow(
        "s3://bucket/u.mp4",
        "mine",
        "own words",
        "T",
        attributes={
            "s3_url": "s3://bucket/s.mp4",
            "id": "1",
            "manual_category_id": "48.0",
            "parsed_category": "broken(",
        },
    )
    assert second == VideoRow("s3://bucket/s.mp4", "1", "films", "P")


def test_url_is_the_address_only_where_no_other_column_is(tmp_path: Path) -> None:
    assert read_one(tmp_path, "url\nhttps://host.org/a.mp4\n").uri == "https://host.org/a.mp4"
    assert errors(read(tmp_path, "url,s3_url\nhttps://host.org/a.mp4,\n")) == [
        ("videos.csv line 2", "no address in column s3_url")
    ]


def test_relative_paths_start_from_the_manifest(tmp_path: Path) -> None:
    assert read_one(tmp_path, "uri\nsub/a b.mp4\n").uri == f"file://{tmp_path}/sub/a%20b.mp4"


def test_a_signed_address_warns(tmp_path: Path) -> None:
    row = read_one(
        tmp_path, "uri\nhttps://storage.example.net/bucket/a.mp4?X-Amz-Signature=SECRET\n"
    )
    assert row.uri == "s3://bucket/a.mp4"
    assert "X-Amz-Signature" in (row.warning or "")


@pytest.mark.parametrize(
    ("cell", "category"),
    [
        ("48", "films"),
        ("48.0", "films"),
        ("48.0_films", "films"),
        ("Фильмы", "films"),
        ("Home cooking", "Home cooking"),
        ("nan", None),
        ("NaN", None),
        ("  ", None),
    ],
)
@pytest.mark.parametrize("column", ["category", "manual_category_id"])
def test_categories(tmp_path: Path, column: str, cell: str, category: str | None) -> None:
    assert read_one(tmp_path, f"uri,{column}\na.mp4,{cell}\n").category == category


@pytest.mark.parametrize("cell", [*map(str, range(20, 29)), "28.0", "50", "-1", "48.5", '"48,5"'])
def test_an_id_of_no_category_is_an_error_with_its_line(tmp_path: Path, cell: str) -> None:
    rows = read(tmp_path, f"uri,category\na.mp4,films\nb.mp4,{cell}\nc.mp4,films\n")
    assert [type(row) for row in rows] == [VideoRow, RowError, VideoRow]
    assert [where for where, _ in errors(rows)] == ["videos.csv line 3"]


@pytest.mark.parametrize(
    ("cell", "title"),
    [
        ("('T', 'c')", "T"),
        ("(' T ',)", "T"),
        ("['T']", "T"),
        ("(7, 'c')", "7"),
        ("(None, 'c')", None),
        ("('', 'c')", None),
        (r"('a\d', 'c')", r"a\d"),
        ("nan", None),
    ],
)
def test_titles_from_tuples(tmp_path: Path, cell: str, title: str | None) -> None:
    assert read_one(tmp_path, f'uri,parsed_category\na.mp4,"{cell}"\n').title == title


@pytest.mark.parametrize(
    "cell",
    [
        "()",
        "T",
        "'T'",
        "{'T': 1}",
        "('T', nan)",
        "__import__('os').abort()",
        "(" * 300,
        "-" * 9_000 + "1",
        "('" + "x" * 10_000 + "',)",
        "{[]: 1}",
        r"('a\x00',)",
        r"('\ud800',)",
    ],
)
def test_malformed_tuples_are_row_errors(tmp_path: Path, cell: str) -> None:
    rows = read(tmp_path, f'uri,parsed_category\na.mp4,"{cell}"\nb.mp4,"(\'T\',)"\n')
    assert [where for where, _ in errors(rows)] == ["videos.csv line 2"]
    assert "parsed_category" in errors(rows)[0][1]
    assert isinstance(rows[1], VideoRow)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b",x", "no address"),
        (b"nan,x", "no address"),
        (b"ftp://host.org/a.mp4,x", "scheme ftp"),
        (b"s3://bucket/prefix/,x", "names no object"),
        (b"a.mp4,x,y,z", "4 cells under 3 columns"),
        (b"a.mp4,caf\xe9", "column 'title': not UTF-8"),
        (b"a.mp4,a\0b", "column 'title': a NUL character"),
        (b'a.mp4,"' + b"x" * (1 << 20) + b'y"', "field larger"),
        (b"a.mp4,x," + b"1" * 501, "id has 501 characters"),
    ],
)
def test_a_bad_row_is_named_and_the_rest_goes_on(tmp_path: Path, line: bytes, reason: str) -> None:
    rows = read(tmp_path, b"uri,title,id\nfirst.mp4,one,1\n\n" + line + b"\nlast.mp4,two,2\n")
    assert [type(row) for row in rows] == [VideoRow, RowError, VideoRow]
    ((where, said),) = errors(rows)
    assert where == "videos.csv line 4"
    assert reason in said


def test_short_rows_trailing_commas_long_fields_and_repeats_are_accepted(tmp_path: Path) -> None:
    rows = read(tmp_path, f"\nuri,id,note\na.mp4\na.mp4,1,{'x' * 900_000},,\n,,\n")
    assert [row.uri for row in rows if isinstance(row, VideoRow)] == [
        f"file://{tmp_path}/a.mp4"
    ] * 2
    assert not errors(rows)


def test_the_line_is_the_files_own_behind_a_text_of_several_lines(tmp_path: Path) -> None:
    rows = read(tmp_path, 'uri,title\na.mp4,"one\ntwo\nthree"\n,x\n')
    assert isinstance(rows[0], VideoRow)
    assert rows[0].title == "one\ntwo\nthree"
    assert errors(rows)[0][0] == "videos.csv line 5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "videos.csv is empty: it has no columns, of which one must hold the address; accepted",
        ),
        ("\n\n", "is empty"),
        (
            "link,name\na,b\n",
            "(found: link, name); accepted: uri, s3_url, s3_uri, contenturl, video_url, url, path",
        ),
        ("link,name\na,b\n", "if 'link' holds it, rename that column to uri"),
        ("link;name\na;b\n", "found: link, name"),
        ("uri,title,Title\na,b,c\n", "column 'title' twice"),
        (
            "uri,имя\n".encode("cp1251"),
            "line 1 is not UTF-8 text; save the list as UTF-8, for example with: iconv -f cp1251",
        ),
    ],
)
def test_a_wrong_file_is_refused_before_any_row(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = tmp_path / "videos.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        read_table(path, Context(tmp_path, load_shipped(), None))
    assert message in str(caught.value)


def test_rows_are_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "videos.csv"
    path.write_text(
        "uri,title\n" + "".join(f"s3://bucket/{n}.mp4,{'t' * 200}\n" for n in range(5_000))
    )
    count = 0
    tracemalloc.start()
    try:
        for _ in read_table(path, Context(tmp_path, load_shipped(), None)):
            count += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 5_000
    assert peak < path.stat().st_size / 4
