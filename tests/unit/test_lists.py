"""The lists people have: how they are packed, encoded and separated, and whose columns they are."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyarrow import parquet

from db.errors import UsageError
from db.settings import load
from producer.categories import load_shipped
from producer.sources.manifest import FROM_NAMES
from producer.sources.reading import RowError, VideoRow, read_source
from workers.settings import WorkerSettings
from workers.sources.storage import Storage

TABLE = "uri,id,title\n/data/a.mp4,1,Ночь\n/data/b.mp4,2,y\n"
TWO = [("/data/a.mp4", "1", "Ночь"), ("/data/b.mp4", "2", "y")]
AS_JSON = [{"uri": uri, "id": external_id, "title": title} for uri, external_id, title in TWO]
AS_JSON_LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in AS_JSON)


def read(source: str | Path) -> list[VideoRow | RowError]:
    storage = Storage(load(WorkerSettings), roots=None)
    rows = read_source(
        str(source), categories=load_shipped(), match=None, s3_endpoint=None, storage=storage
    )
    return list(rows)


def written(folder: Path, content: str | bytes, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def told(rows: list[VideoRow | RowError]) -> list[object]:
    """What each row is: a video's address, id and title, or where a bad row stands."""
    return [
        (row.uri.removeprefix("file://"), row.external_id, row.title)
        if isinstance(row, VideoRow)
        else row.where
        for row in rows
    ]


def reasons(rows: list[VideoRow | RowError]) -> list[str]:
    return [row.reason for row in rows if isinstance(row, RowError)]


def as_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(AS_JSON), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", TABLE),
        ("list.tsv", TABLE.replace(",", "\t")),
        ("list.tab", TABLE.replace(",", "\t")),
        ("list.csv", TABLE.replace(",", "\t")),
        ("list.csv", TABLE.replace(",", ";")),
        ("list.csv", TABLE.replace(",", "|")),
        ("list.csv", "sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n")),
        ("list.CSV", "\ufeff" + TABLE.replace(",", ";")),
        ("list.csv", TABLE.replace("\n", "\r")),
        ("list.csv", TABLE.encode("utf-16")),
        ("list.tsv", TABLE.replace(",", "\t").encode("utf-16-le")),
        ("list.csv", TABLE.encode("utf-16-be")),
        ("list.csv", TABLE.encode("utf-32")),
        ("list.jsonl", AS_JSON_LINES),
        ("list.ndjson", "\ufeff\n" + AS_JSON_LINES),
        ("list.json", AS_JSON_LINES),
        ("list.json", json.dumps(AS_JSON, indent=2)),
        ("list.json", json.dumps(AS_JSON).encode("utf-16")),
        ("list.parquet", as_parquet()),
    ],
)
def test_every_list_says_the_same(tmp_path: Path, name: str, content: str | bytes) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    assert told(read(written(tmp_path, raw, name))) == TWO
    for ending, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        assert told(read(written(tmp_path, pack(raw), name + ending))) == TWO
        assert told(read(written(tmp_path, pack(raw), name))) == TWO, (
            "by its first bytes, whatever the name says"
        )
    assert told(read(written(tmp_path, raw, f"{name}.gz"))) == TWO, (
        "unpacked on the way, and the name was kept"
    )


def test_zstandard_is_read_where_pyarrow_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "list.csv.zst"
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(TABLE.encode())
    assert told(read(path)) == TWO
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"reelvec\[parquet\]"):
        read(path)


def test_a_packed_list_of_lines(tmp_path: Path) -> None:
    path = written(
        tmp_path, gzip.compress("/a.mp4\r\n# no\r\n/b c.mp4\r\n".encode("utf-16")), "list.txt.gz"
    )
    assert told(read(path)) == [("/a.mp4", None, "a"), ("/b%20c.mp4", None, "b c")]


@pytest.mark.parametrize("name", ["list.csv.gz", "list.jsonl.gz", "list.txt.gz", "list.json.gz"])
def test_where_a_packed_list_is_cut_is_told(tmp_path: Path, name: str) -> None:
    rows = {
        "list.csv.gz": "uri\n" + "".join(f"/{i * 7919}.mp4\n" for i in range(20_000)),
        "list.jsonl.gz": "".join(f'{{"uri": "/{i * 7919}.mp4"}}\n' for i in range(20_000)),
        "list.json.gz": json.dumps([{"uri": f"/{i * 7919}.mp4"} for i in range(20_000)]),
        "list.txt.gz": "".join(f"/{i * 7919}.mp4\n" for i in range(20_000)),
    }[name]
    packed = gzip.compress(rows.encode())
    found = read(written(tmp_path, packed[: len(packed) // 2], name))
    assert 1_000 < len(found) < 20_000
    assert [type(row) for row in found[:-1]] == [VideoRow] * (len(found) - 1)
    assert "damaged here" in reasons(found)[0]
    with pytest.raises(UsageError, match=r"damaged|cannot be read"):
        read(written(tmp_path, packed[:14], name))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['/a.mp4,"5 inch TV', "/b.mp4,x", "/c.mp4,y"], ["line 2", "/b.mp4", "/c.mp4"]),
        (['/a.mp4,"5 inch TV', '/b.mp4,"x, y"', "/c.mp4,y"], ["line 2", "/b.mp4", "/c.mp4"]),
        (['/a.mp4,"5 inch TV', '/b.mp4,7"', "/c.mp4,y"], ["line 2", "/b.mp4", "/c.mp4"]),
        (["/a.mp4,x", '/b.mp4,"y'], ["/a.mp4", "line 3"]),
        (['/a.mp4,"y', "more of it", "and more"], ["line 2"]),
        (['/a.mp4,"one', 'two"', '/b.mp4,"z', "/c.mp4,y"], ["/a.mp4", "line 4", "/c.mp4"]),
        (['/a.mp4,"one', "two", 'three" four', "/c.mp4,y"], ["line 2", "/c.mp4"]),
        (['"/a.mp4', "/b.mp4,x"], ["line 2", "/b.mp4"]),
        (['/a.mp4,"he said ""no""', 'twice"', "/b.mp4,x"], ["/a.mp4", "/b.mp4"]),
        (
            ['/a.mp4,"q"' + "\n"] + [f'/{i}.mp4,"open' for i in range(5)],
            ["/a.mp4", *(f"line {i}" for i in range(4, 9))],
        ),
    ],
)
def test_a_quote_that_is_not_closed_costs_its_own_row(
    tmp_path: Path, lines: list[str], expected: list[str]
) -> None:
    rows = read(written(tmp_path, "\n".join(["uri,title", *lines]) + "\n"))
    found = [
        row.uri.removeprefix("file://")
        if isinstance(row, VideoRow)
        else row.where.removeprefix("list.csv ")
        for row in rows
    ]
    assert found == expected
    assert all("quote begins here" in reason for reason in reasons(rows))


def test_the_line_is_where_the_open_quote_begins_not_where_its_row_does(tmp_path: Path) -> None:
    rows = read(written(tmp_path, 'uri,title,note\n/a.mp4,"one\ntwo","open\n/b.mp4,x,y\n'))
    assert told(rows) == ["list.csv line 3", ("/b.mp4", None, "x")]


def test_how_far_an_open_quote_goes_is_said(tmp_path: Path) -> None:
    rows = read(written(tmp_path, 'uri,title\n/a.mp4,"y\nmore of it\nand more\n/b.mp4,x\n'))
    assert "lines 2 to 4 are one bad row" in reasons(rows)[0]


def test_a_line_without_end_is_left_out(tmp_path: Path) -> None:
    long = "x" * (5 << 20)
    for name, first in (("list.csv", "uri\n"), ("list.jsonl", ""), ("list.txt", "")):
        row = '{"uri": "/a.mp4"}' if name == "list.jsonl" else "/a.mp4"
        rows = read(written(tmp_path, f"{first}{row}\n{long}\n{row}\n", name))
        assert [type(each) for each in rows] == [VideoRow, RowError, VideoRow]
        assert "longer than 4,194,304 characters" in reasons(rows)[0]


@pytest.mark.parametrize("encoding", ["cp1251", "latin-1"])
def test_another_encoding_is_told_by_its_line(tmp_path: Path, encoding: str) -> None:
    word = "Ночь" if encoding == "cp1251" else "café"
    rows = read(
        written(tmp_path, f"uri,title\n/a.mp4,x\n/b.mp4,{word}\n/c.mp4,y\n".encode(encoding))
    )
    assert told(rows) == [("/a.mp4", None, "x"), "list.csv line 3", ("/c.mp4", None, "y")]
    assert "iconv -f cp1251 -t utf-8" in reasons(rows)[0]
    (only,) = reasons(
        read(written(tmp_path, f"/a.mp4\n/{word}.mp4\n".encode(encoding), "list.txt"))
    )
    assert "iconv" in only


def test_half_a_character_of_utf16_costs_its_row(tmp_path: Path) -> None:
    begin, end = "\ufeffuri,title\n/a.mp4,x\n/b.mp4,y", "\n/c.mp4,z\n"
    raw = begin.encode("utf-16-le") + b"\x00\xd8" + end.encode("utf-16-le")
    rows = read(written(tmp_path, raw))
    assert told(rows) == [("/a.mp4", None, "x"), "list.csv line 3", ("/c.mp4", None, "z")]


class TestLayouts:
    def test_webvid(self, tmp_path: Path) -> None:
        text = "videoid,contentUrl,duration,page_dir,name\n21179416,https://h.org/a.mp4,PT00H00M11S,006001_006050,Aerial shot\n"
        assert read(written(tmp_path, text)) == [
            VideoRow(
                "https://h.org/a.mp4",
                "21179416",
                title="Aerial shot",
                attributes={"duration": "PT00H00M11S", "page_dir": "006001_006050"},
            )
        ]

    def test_kinetics_says_what_to_add(self, tmp_path: Path) -> None:
        text = (
            "label,youtube_id,time_start,time_end,split\ntesting apple,---QUuC4vJs,84,94,validate\n"
        )
        with pytest.raises(
            UsageError, match=r"'youtube_id' holds ids of YouTube.*add a column uri"
        ):
            read(written(tmp_path, text))
        with_path = text.replace("split\n", "split,path\n").replace(
            "validate\n", "validate,/clips/a.mp4\n"
        )
        assert read(written(tmp_path, with_path)) == [
            VideoRow(
                "file:///clips/a.mp4",
                "---QUuC4vJs",
                "testing apple",
                attributes={"time_start": "84", "time_end": "94", "split": "validate"},
            )
        ]

    def test_panda(self, tmp_path: Path) -> None:
        text = (
            "videoID,url,timestamp,caption,matching_score\n"
            "--210,https://www.youtube.com/watch?v=--210,\"[['0:00:00.000', "
            "'0:00:10.000']]\",\"['a cat']\",[0.4]\n"
        )
        (row,) = read(written(tmp_path, text))
        assert isinstance(row, RowError)
        assert "a page of youtube.com" in row.reason
        (row,) = read(
            written(
                tmp_path, text.replace("https://www.youtube.com/watch?v=--210", "s3://bucket/a.mp4")
            )
        )
        assert isinstance(row, VideoRow)
        assert (row.uri, row.external_id) == ("s3://bucket/a.mp4", "--210")
        assert row.attributes["timestamp"] == "[['0:00:00.000', '0:00:10.000']]"

    def test_openvid(self, tmp_path: Path) -> None:
        text = (
            'video,caption,aesthetic score,seconds\n--2ol_2_0to128.mp4,"A man, talking",4.6,5.1\n'
        )
        (row,) = read(written(tmp_path, text))
        assert isinstance(row, VideoRow)
        assert row.uri == f"file://{tmp_path}/--2ol_2_0to128.mp4"
        assert row.attributes == {
            "caption": "A man, talking",
            "aesthetic score": "4.6",
            "seconds": "5.1",
        }

    @pytest.mark.parametrize("indent", [None, 2])
    def test_activitynet_is_refused_with_advice(self, tmp_path: Path, indent: int | None) -> None:
        entry = {
            "duration": 82.7,
            "subset": "training",
            "url": "https://www.youtube.com/watch?v=x",
            "annotations": [],
        }
        text = json.dumps(
            {"version": "1.3", "database": {f"v{i}": entry for i in range(3)}, "taxonomy": []},
            indent=indent,
        )
        with pytest.raises(UsageError, match="ActivityNet"):
            read(written(tmp_path, text, "activity_net.json"))

    def test_a_number_as_label_is_no_category(self, tmp_path: Path) -> None:
        (row,) = read(written(tmp_path, "uri,label\n/a.mp4,48\n"))
        assert isinstance(row, VideoRow)
        assert (row.category, row.attributes) == (None, {"label": "48"})


@pytest.mark.parametrize(
    "mark", ["nan", "NaN", "NULL", "null", "None", "<NA>", "N/A", "n/a", "NaT", "NA", "#N/A", " "]
)
def test_a_missing_id_is_none_and_no_attribute(tmp_path: Path, mark: str) -> None:
    (row,) = read(written(tmp_path, f"uri,id,category\n/a.mp4,{mark},{mark}\n"))
    assert row == VideoRow("file:///a.mp4")


@pytest.mark.parametrize(
    ("text", "external_id"), [("1.0", "1"), ("12.00", "12"), ("1.5", "1.5"), ("v1.0", "v1.0")]
)
def test_a_whole_number_is_the_same_id_everywhere(
    tmp_path: Path, text: str, external_id: str
) -> None:
    lists = [
        written(tmp_path, f"uri,id\n/a.mp4,{text}\n"),
        written(tmp_path, json.dumps({"uri": "/a.mp4", "id": text}), "list.jsonl"),
    ]
    if text[0].isdigit():
        lists.append(written(tmp_path, f'{{"uri": "/a.mp4", "id": {text}}}', "numbers.jsonl"))
        parquet.write_table(
            pa.table({"uri": ["/a.mp4"], "id": [float(text)]}), tmp_path / "list.parquet"
        )
        lists.append(tmp_path / "list.parquet")
    for path in lists:
        assert read(path) == [VideoRow("file:///a.mp4", external_id)]


class TestJson:
    def test_bad_objects_are_named_and_the_rest_goes_on(self, tmp_path: Path) -> None:
        bad = [
            "{broken",
            "7",
            '{"uri": ["/x.mp4"]}',
            '{"id": 1}',
            '{"uri": "/b.mp4", "a\\u0000": 1}',
        ]
        bad += [
            f'{{"uri": "/c.mp4", "deep": {"[" * depth + "]" * depth}}}' for depth in (30, 3_000)
        ]
        last = '{"uri": "/z.mp4", "n": NaN, "i": 1e999, "s": {"k": [1.0]}}'
        rows = read(
            written(tmp_path, "\n".join(['{"uri": "/a.mp4"}', "", *bad, last]), "list.jsonl")
        )
        assert told(rows)[1:-1] == [f"list.jsonl line {number}" for number in (3, 4, 5, 6, 7, 8, 9)]
        assert isinstance(rows[-1], VideoRow)
        assert rows[-1].attributes == {"s": {"k": [1]}}

    def test_an_array_that_breaks_off_is_read_so_far(self, tmp_path: Path) -> None:
        rows = read(
            written(tmp_path, '[{"uri": "/a.mp4"},\n {"uri": "/b.mp4"}, {"uri": ', "list.json")
        )
        assert told(rows) == [("/a.mp4", None, None), ("/b.mp4", None, None), "list.json item 3"]
        assert "nothing behind it was read" in reasons(rows)[0]

    def test_the_key_of_the_address_is_the_same_for_all(self, tmp_path: Path) -> None:
        rows = read(
            written(
                tmp_path,
                '{"url": "https://page.org/1"}\n{"s3_url": "s3://bucket/a.mp4"}\n',
                "list.jsonl",
            )
        )
        assert told(rows) == ["list.jsonl line 1", ("s3://bucket/a.mp4", None, None)]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is empty"),
            ('{"link": "/a.mp4", "size": 1}', "if 'link' holds it, rename that column to uri"),
            ('{"videos": [{"uri": "/a.mp4"}]}', "one object"),
            ('{\n  "videos": 1\n}\n', "not a list in JSON"),
            ("[]", "no column for the address"),
            ('"text"', "no column for the address"),
        ],
    )
    def test_what_is_no_list_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            read(written(tmp_path, text, "list.json"))


class TestNoList:
    @pytest.mark.parametrize(
        "name",
        ["list.xlsx", "list.zip", "list.csv.7z", "q.py", "page.HTML", "a.jpg", "list.unknown.gz"],
    )
    def test_other_files_are_refused_and_the_lists_named(self, tmp_path: Path, name: str) -> None:
        path = written(tmp_path, b"PK\x03\x04\xff\xfe", name)
        for source in (str(path), f"https://host.org/{name}", f"s3://bucket/{name}"):
            with pytest.raises(UsageError, match=r"the lists that are read are \.csv, \.tsv.*\.gz"):
                read(source)

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("Hello, this is a readme.\n\nSee https://host.org for more.\n", "line 1"),
            ("# a comment\nimport os\n\nprint(os.sep)\n", "line 2"),
            ("/* C */\n// more of it\nint main() { return 0; }\n", "line 1"),
            ("---QUuC4vJs\nabcdefghijk\n", "line 1"),
        ],
    )
    def test_prose_and_code_are_no_lists(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: str
    ) -> None:
        with pytest.raises(
            UsageError, match=f"no list of videos: {line} is no path and no address"
        ):
            read(written(tmp_path, text, "readme.txt"))
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
        with pytest.raises(UsageError, match="standard input is no list of videos"):
            read("-")

    def test_one_strange_line_in_a_list_is_one_bad_row(self, tmp_path: Path) -> None:
        (tmp_path / "no ending").write_bytes(b"x")
        rows = read(written(tmp_path, "/a.mp4\nnot there\nno ending\nb.mkv\n", "list.txt"))
        assert [type(row) for row in rows] == [VideoRow, RowError, VideoRow, VideoRow]
        assert "list.txt line 2" in told(rows)

    def test_a_text_is_no_video_whatever_its_name(self, tmp_path: Path) -> None:
        for text in ("Заметки о видео\n" * 500, "import os\n"):
            with pytest.raises(UsageError, match="is a text"):
                read(written(tmp_path, text, "notes"))

    def test_a_strange_name_is_warned_about(self, tmp_path: Path) -> None:
        (row,) = read(written(tmp_path, b"\x00\x01\xff", "clip.dat"))
        assert isinstance(row, VideoRow)
        assert "does not have the name of a video" in (row.warning or "")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("C:\\videos\\a.mp4", "'C:\\videos\\a.mp4' is a path of Windows"),
        ("d:/videos/a.mp4", "path of Windows"),
        ("file:///C:/videos/d.mp4", "path of Windows"),
        ("\\\\server\\share\\a.mp4", "network share"),
        ("clips\\b.mp4", "write / between folders"),
        ("www.host.example/x.mp4", "write https://www.host.example/x.mp4"),
        ("youtube.com/watch?v=1", "a page of youtube.com"),
        ("https://m.youtube.com/watch?v=1", "a page of m.youtube.com"),
        ("https://youtu.be/abc", "a page of youtu.be"),
        ("https://vimeo.com/12345", "a page of vimeo.com"),
        ("gs://bucket/a.mp4", "storage.googleapis.com"),
        ("ftp://host/a.mp4", "copy the files"),
        ("arn:aws:s3:us-east-1:1234:accesspoint/x/object/a.mp4", "an ARN"),
        ("clip7", "is neither a path nor an address"),
    ],
)
def test_addresses_of_other_systems_are_named(tmp_path: Path, address: str, said: str) -> None:
    rows = read(written(tmp_path, f"uri\n/a.mp4\n{address}\n/z.mp4\n"))
    assert [type(row) for row in rows] == [VideoRow, RowError, VideoRow]
    assert said in reasons(rows)[0]


@pytest.mark.parametrize(
    "address",
    [
        "arn:aws:s3:::bucket/a/k.mp4",
        "arn:aws-cn:s3:::bucket/a/k.mp4",
        "s3a://bucket/a/k.mp4",
        "S3N://bucket/a/k.mp4",
    ],
)
def test_other_spellings_of_an_object_mean_it(address: str) -> None:
    assert read(address) == [VideoRow("s3://bucket/a/k.mp4", title="k", derived=FROM_NAMES)]
