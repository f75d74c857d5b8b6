import errno
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import UserError
from tasks import atomic
from tasks.atomic import replacing, sweep, write_json
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.contract import TableError
from tasks.tables.faces import FACES
from tasks.tables.features import FEATURES
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_table, write_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.splits import SPLIT
from tasks.tables.utterances import UTTERANCES

TABLES = (UTTERANCES, ANNOTATIONS, QUARANTINE, LABELS, SPLIT, FACES, FEATURES)
GOOD = [
    {"utterance_id": f"c/d0/u{i}", "dialogue_id": "c/d0", "turn": i, "start_s": i, "end_s": i + 0.5}
    for i in range(300)
]


def labels(**values):
    return LABELS.frame([{"utterance_id": "c/d0/u0", "n_raters": 1, **values}])


@settings(max_examples=20)
@given(order=st.permutations(range(12)))
def test_the_same_rows_give_the_same_bytes_in_any_order(order):
    with tempfile.TemporaryDirectory() as folder:
        straight, mixed = (os.path.join(folder, name) for name in ("a", "b"))
        write_table(UTTERANCES, UTTERANCES.frame(GOOD[:12]), Path(straight))
        rows = [GOOD[i] for i in order]
        write_table(UTTERANCES, UTTERANCES.frame(rows), Path(mixed))
        with open(straight, "rb") as one, open(mixed, "rb") as other:
            assert one.read() == other.read()


def test_what_is_written_is_read_with_its_metadata(tmp_path):
    path = tmp_path / "deep/er/u.parquet"
    write_table(UTTERANCES, UTTERANCES.frame(GOOD), path, {"b": "2", "a": "é"})
    assert read_table(UTTERANCES, path).equals(UTTERANCES.frame(GOOD).sort("utterance_id"))
    assert read_table(UTTERANCES, path, ["turn"]).columns == ["turn"]
    assert read_metadata(path) == {"a": "é", "b": "2"}
    assert path.stat().st_mode & 0o777 == 0o644


def test_row_groups_are_long_in_long_tables_and_short_where_rows_are_heavy(tmp_path):
    splits = pl.DataFrame(
        {"utterance_id": [f"c/d/u{n:05d}" for n in range(20_000)], "fold": 0, "split": "train"},
        schema=SPLIT.schema,
    )
    faces = FACES.frame(
        [
            {"utterance_id": "c/d/u", "frame": n, "track": 0, "chosen": True, "is_detected": True,
             "status": "ok"}
            for n in range(300)
        ]
    )  # fmt: skip
    for table, frame, groups in ((SPLIT, splits, 3), (FACES, faces, 3)):
        path = write_table(table, frame, tmp_path / f"{table.name}.parquet")
        assert pq.ParquetFile(path).metadata.num_row_groups == groups


def test_an_optional_column_that_says_nothing_is_not_written_and_reads_as_null(tmp_path):
    plain, said = labels(), labels(categories=["b", "a"], first_category="b")
    assert plain.columns == said.columns == list(LABELS.columns)
    for frame, expected in ((plain, None), (plain.drop("first_category"), None), (said, "b")):
        write_table(LABELS, frame, tmp_path / "labels.parquet")
        on_disk = pq.read_schema(tmp_path / "labels.parquet").names
        assert ("first_category" in on_disk) is (expected is not None)
        found = read_table(LABELS, tmp_path / "labels.parquet")
        assert found["first_category"].to_list() == [expected]
        assert found.schema == plain.schema
        asked = read_table(LABELS, tmp_path / "labels.parquet", ["first_category", "category"])
        assert asked.columns == ["first_category", "category"]
        assert asked["first_category"].to_list() == [expected]
    with pytest.raises(TableError, match="lacks column valence"):
        LABELS.check(plain.drop("valence"), "here")


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.name)
def test_every_table_can_be_empty_and_has_its_key(table):
    assert set(table.key) <= set(table.columns)
    if table is not FEATURES:  # the width of pooled is the encoder's
        table.check(table.empty(), "here")


@pytest.mark.parametrize(("frame", "sentence"), [
    (labels(valence=1.5), "x: row c/d0/u0: valence = 1.5 is above 1 (1 such rows); mend the"),
    (labels(valence=float("nan")), "valence = nan is not finite"),
    (labels(joy=-0.1), "joy = -0.1 is below 0"),
    (labels(sentiment=3.5), "sentiment = 3.5 is above 3"),
    (labels(n_raters=None), "n_raters = None is empty"),
    (labels().drop("joy"), "x: table labels lacks column joy; rerun stage labels"),
    (labels().with_columns(fun=pl.lit(1)), "has unknown column fun"),
    (labels().with_columns(pl.col("joy").cast(pl.Float32)), "joy of table labels is Float32, exp"),
    (pl.concat([labels(), labels()]), "2 rows share a key; the first is c/d0/u0; keep one row per"),
], ids=str)  # fmt: skip
def test_a_broken_row_is_named(frame, sentence):
    with pytest.raises(TableError) as caught:
        LABELS.check(frame, "x")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("change", "sentence"), [
    ({"end_s": 0.0}, "1 rows break 'end_s must be after start_s'; the first is c/d0/u0"),
    ({"media": "a.mp4"}, "break 'a media file needs its hash'"),
    ({"published_split": "dev"}, "published_split = 'dev' is none of train, validation, test"),
    ({"start_s": -1.0}, "start_s = -1.0 is below 0"),
])  # fmt: skip
def test_rules_of_utterances_are_kept(change, sentence):
    with pytest.raises(TableError) as caught:
        UTTERANCES.check(UTTERANCES.frame([GOOD[0] | change, GOOD[1]]), "x")
    assert sentence in str(caught.value)


def test_rows_with_an_unknown_key_are_refused():
    with pytest.raises(TableError, match="table splits: no such column: foldd"):
        SPLIT.frame([{"utterance_id": "a", "foldd": 0}])


def test_a_broken_table_is_not_written(tmp_path):
    path = tmp_path / "l.parquet"
    write_table(LABELS, labels(), path)
    before = path.read_bytes()
    with pytest.raises(TableError):
        write_table(LABELS, labels(valence=2.0), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["l.parquet"]


def test_a_broken_file_is_not_read(tmp_path):
    path = tmp_path / "l.parquet"
    labels(valence=2.0).write_parquet(path)
    with pytest.raises(TableError, match=r"l\.parquet: row c/d0/u0: valence = 2.0 is above 1"):
        read_table(LABELS, path)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(TableError, match=r"not a readable Parquet file.*rerun stage labels"):
        read_table(LABELS, path)


def test_a_missing_table_names_its_stage(tmp_path):
    for path in (tmp_path / "none.parquet", tmp_path):
        with pytest.raises(TableError, match="no such table; run stage features first"):
            read_table(FEATURES, path)
        with pytest.raises(TableError, match="no such table; run the stage"):
            read_metadata(path)


def test_a_key_in_two_files_of_a_table_is_an_error(tmp_path):
    write_table(LABELS, labels(), tmp_path / "0.parquet")
    write_table(LABELS, labels(), tmp_path / "1.parquet")
    with pytest.raises(TableError, match=f"^{tmp_path}: 2 rows share a key"):
        read_table(LABELS, tmp_path)


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def forbidden(*_, **__):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(("owner", "name", "fault", "reason"), [
    (os, "fsync", full, "No space left on device"),
    (pq.ParquetWriter, "write_table", full, "No space left on device"),
    (tempfile, "mkstemp", forbidden, "Permission denied"),
])  # fmt: skip
def test_a_failed_write_leaves_the_old_file_and_says_so(
    tmp_path, monkeypatch, owner, name, fault, reason
):
    path = tmp_path / "u.parquet"
    write_table(UTTERANCES, UTTERANCES.frame(GOOD[:3]), path)
    before = path.read_bytes()
    monkeypatch.setattr(owner, name, fault)
    with pytest.raises(UserError) as caught:
        write_table(UTTERANCES, UTTERANCES.frame(GOOD), path)
    expected = f"cannot write {path}: {reason}; free space or allow writing there"
    assert str(caught.value) == expected
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["u.parquet"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UserError, match=r"cannot write .*: Permission denied"):
            write_table(LABELS, labels(), tmp_path / "l.parquet")
    finally:
        tmp_path.chmod(0o755)


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(UserError, match=r"cannot write .*data/l\.parquet: "):
        write_table(LABELS, labels(), tmp_path / "data" / "l.parquet")


def test_an_interrupted_write_leaves_no_trace(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({}, '{\n "a": [\n  1\n ],\n "b": "\\u00e9"\n}\n'),
        ({"indent": 2}, '{\n  "a": [\n    1\n  ],\n  "b": "\\u00e9"\n}\n'),
        ({"indent": None}, '{"a": [1], "b": "\\u00e9"}\n'),
    ],
)
def test_json_has_its_keys_sorted_and_ends_its_last_line(tmp_path, how, wanted):
    write_json(tmp_path / "new" / "a.json", {"b": "é", "a": [1]}, **how)
    assert (tmp_path / "new" / "a.json").read_text() == wanted


def test_no_json_takes_a_number_that_is_none(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n "a": 1\n}\n'
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_not_touched(tmp_path):
    command = """
import os, signal, sys
from pathlib import Path
from tasks.atomic import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "a.json"
    subprocess.run([sys.executable, "-c", command, str(path)], check=False)
    (left,) = tmp_path.iterdir()
    with replacing(path) as temporary:
        temporary.write_text("whole")
        for file in (left, temporary):
            os.utime(file, (time.time() - 60,) * 2)
        sweep(path)
        assert list(tmp_path.iterdir()) == [temporary]
    assert path.read_text() == "whole"


def test_where_files_cannot_be_locked_an_hour_decides(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(atomic.fcntl, "flock", refuse)
    path = tmp_path / "a.json"
    with replacing(path) as temporary:
        for age, is_there in ((60, True), (3_700, False)):
            temporary.write_text("half")
            os.utime(temporary, (time.time() - age,) * 2)
            sweep(path)
            assert temporary.exists() is is_there
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_a_young_file_is_left_to_a_writer_that_locks_it_in_time(tmp_path, monkeypatch):
    old, young, killed, other = (
        tmp_path / f".{n}.tmp"
        for n in ("a[1].json.x1", "a[1].json.x2", "a[1].json.x3", "b.json.x4")
    )
    for path in (old, young, killed, other):
        path.write_text("half")
    for path in (old, other):
        os.utime(path, (0, 0))
    with young.open("rb") as stream:
        monkeypatch.setattr(
            atomic.time, "sleep", lambda _: atomic.fcntl.flock(stream, atomic.fcntl.LOCK_EX)
        )
        sweep(tmp_path / "a[1].json")
    assert sorted(tmp_path.iterdir()) == sorted([young, other])


@pytest.mark.parametrize("order", [1, -1])
def test_rows_that_share_a_key_are_found_in_any_order(order):
    rows = [(name, fold) for name in ("c/d0/u0", "c/d0/u1", "c/d0/u2") for fold in (0, 1)]
    rows.insert(4, rows[2])
    frame = SPLIT.frame(
        [{"utterance_id": name, "fold": fold, "split": "test"} for name, fold in rows[::order]]
    )
    with pytest.raises(TableError, match="2 rows share a key; the first is c/d0/u1 / 0;"):
        SPLIT.check(frame, "here")
    SPLIT.check(frame.unique(["utterance_id", "fold"]), "here")
