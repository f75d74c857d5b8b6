"""A table of the user's own: text, Parquet and JSON lines, wide and long, through the stages."""

import json
import os
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import UserError
from tasks.corpora import table_files, table_rows, text_blocks
from tasks.corpora.adapters.table import read
from tasks.corpora.files import read_csv
from tasks.corpora.table_files import read_table_parts
from tests.tasks.corpora.trees_conversation import (
    counts_of,
    ingested,
    reasons,
    through_stages,
    write_text,
    write_wav,
)

SHARED = Path(os.environ.get("AFFECTLOOM_SHARED", "../shared")).resolve() / "data"

CLIPS = '''id,talk,place,who,room,clip,from,to,words,part,emotion,v_ann,v_bob
a,t1,0,ann,r1,a,0.5,1.5,Hello there,train,joy,4,5
b,t1,1,bob,r1,b,1.5,2.75,"Well, ""no""",train,anger,1,
c,t2,0,ann,r2,c,0,1,None,dev,joy,3,3
d,t2,1,eve,r2,d,1,2,NA,test,anger,2,1
'''
COLUMNS = {
    "utterance": "id",
    "dialogue": "talk",
    "turn": "place",
    "speaker": "who",
    "session": "room",
    "media": "clip",
    "start_s": "from",
    "end_s": "to",
    "text": "words",
    "split": "part",
}
WIDE = {
    "targets": {
        "valence": {"columns": {"ann": "v_ann", "bob": "v_bob"}, "scale": [1, 5]},
        "category": {"column": "emotion"},
    }
}
OPTIONS = {
    "file": "clips.csv",
    "columns": COLUMNS,
    "constants": {"language": "en"},
    "media": "wav/{}.wav",
    "labels": WIDE,
    "label_map": {"joy": "happy", "anger": "angry"},
}


@pytest.fixture
def root(project):
    folder = project / "data/raw/mine"
    write_text(folder / "clips.csv", CLIPS)
    for salt, name in enumerate("abcd"):
        write_wav(folder / f"wav/{name}.wav", salt)
    return folder


def stages(options: dict, **more) -> dict[str, pl.DataFrame]:
    return through_stages("mine", options, adapter="table", **more)


def edit(root: Path, old: str, new: str) -> None:
    path = root / "clips.csv"
    text = path.read_text()
    assert old in text
    write_text(path, text.replace(old, new))


def test_a_wide_table_passes_all_stages(root):
    tables = stages(OPTIONS)
    rows = tables["utterances"]
    assert rows["utterance_id"].to_list() == ["mine/t1/a", "mine/t1/b", "mine/t2/c", "mine/t2/d"]
    assert rows["turn"].to_list() == [0, 1, 0, 1]
    assert rows["media"][0] == "mine/wav/a.wav"
    assert rows["end_s"].to_list() == [1.5, 2.75, 1.0, 2.0]
    assert rows["text"].to_list() == ["Hello there", 'Well, "no"', "None", "NA"]
    assert rows["language"].to_list() == ["en"] * 4
    assert rows["published_split"].to_list() == ["train", "train", "validation", "test"]
    assert tables["labels"]["category"].to_list() == ["happy", "angry", "happy", "angry"]
    assert tables["labels"]["valence"].to_list() == [0.75, -1.0, 0.0, -0.75]
    assert tables["labels"]["n_raters"].to_list() == [3, 2, 3, 3]
    assert tables["quarantine"].height == tables["labels_quarantine"].height == 0
    assert counts_of("mine")["findings"] == []


def test_a_table_may_tell_of_its_speakers(root):
    lines = (root / "clips.csv").read_text().splitlines()
    told = ["sex,age,of", "F,31,one", "male,,two", "x,40,one", "m,old,"]
    both = [f"{line},{more}" for line, more in zip(lines, told, strict=True)]
    write_text(root / "clips.csv", "\n".join(both) + "\n")
    columns = COLUMNS | {"sex": "sex", "age": "age", "dataset": "of"}
    tables = ingested("mine", OPTIONS | {"columns": columns}, 1.0, "table")
    rows = tables["utterances"].select("sex", "age", "dataset").rows()
    assert rows == [("female", 31.0, "one"), ("male", None, "two")]
    assert reasons(tables["quarantine"])["unknown_sex"] == 1
    assert reasons(tables["quarantine"])["bad_age"] == 1


def typed() -> pl.DataFrame:
    """The same table with types of its own."""
    frame = pl.read_csv(CLIPS.encode(), null_values={"v_bob": ""})
    return frame.with_columns(pl.col("place").cast(pl.Int16), pl.col("from").cast(pl.Float32))


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "tsv", "ndjson"])
def test_every_format_gives_the_same_rows(root, kind):
    wanted = read(root, OPTIONS)
    frame = typed()
    path = root / f"clips.{kind}"
    if kind == "parquet":
        frame.write_parquet(path)
    elif kind == "tsv":
        frame.write_csv(path, separator="\t")
    else:
        lines = [json.dumps({k: v for k, v in row.items() if v is not None})
                 for row in frame.to_dicts()]  # fmt: skip
        write_text(path, "\n".join([*lines, ""]))
    found = read(root, {**OPTIONS, "file": path.name})
    assert found.utterances.equals(wanted.utterances)
    values = ["utterance_id", "rater", "target", "label"]
    assert found.annotations.select(values).equals(wanted.annotations.select(values))
    numbers = [f.annotations["value"].cast(pl.Float64).to_list() for f in (found, wanted)]
    assert numbers[0] == numbers[1]


LONG = "clip,judge,what,said\na,ann,V,4\na,bob,V,5\na,ann,E,joy\nb,ann,V,1\nzz,ann,V,2\nc,eve,V,x\n"
LONG_LABELS = {
    "file": "ratings.csv",
    "utterance": "clip",
    "rater": "judge",
    "target": "what",
    "value": "said",
    "targets": {"valence": {"name": "V", "scale": [1, 5]}, "category": {"name": "E"}},
}


def test_judgements_may_stand_in_a_file_of_their_own(root):
    write_text(root / "ratings.csv", LONG)
    tables = stages({**OPTIONS, "labels": LONG_LABELS})
    assert tables["labels"]["valence"].to_list() == [0.75, -1.0, None, None]
    assert tables["labels"]["category"].to_list() == ["happy", None, None, None]
    assert reasons(tables["quarantine"]) == {"not_numeric": 1, "orphan_label": 1}
    lost = tables["quarantine"].filter(pl.col("reason") == "orphan_label")
    assert lost["utterance_id"].to_list() == ["mine/?/zz"]


def test_ids_that_repeat_between_dialogues_need_the_dialogue(root):
    edit(root, "c,t2", "a,t2")
    write_text(root / "ratings.csv", "clip,talk,judge,what,said\na,t2,ann,V,4\n")
    with pytest.raises(UserError, match="'a' stands in two dialogues"):
        read(root, {**OPTIONS, "labels": LONG_LABELS})
    found = read(root, {**OPTIONS, "labels": {**LONG_LABELS, "dialogue": "talk"}})
    assert found.annotations["utterance_id"].to_list() == ["t2/a"]


def test_undeclared_targets_of_the_long_form_stay_visible(root):
    write_text(root / "ratings.csv", LONG.replace("b,ann,V,1", "b,ann,arousal,1"))
    tables = stages({**OPTIONS, "labels": LONG_LABELS})
    assert reasons(tables["labels_quarantine"]) == {"scale_undeclared": 1}


def test_sets_of_labels_are_split(root):
    edit(root, "1.5,Hello there,train,joy", "1.5,Hello there,train,joy; calm ;")
    labels = {"targets": {"categories": {"column": "emotion", "separator": ";"}}}
    tables = stages({**OPTIONS, "labels": labels}, split_params={"stratify": None})
    assert tables["labels"]["categories"].to_list()[0] == ["calm", "happy"]
    rows = [{**row, "emotion": ["joy", "calm"]} for row in typed().to_dicts()]
    write_text(root / "clips.jsonl", "\n".join(json.dumps(row) for row in rows))
    found = read(root, {**OPTIONS, "file": "clips.jsonl", "labels": labels})
    assert found.annotations["label"].to_list()[:2] == ["joy", "calm"]


@pytest.mark.parametrize(
    ("old", "new", "reason", "says"),
    [
        ("b,t1,1,bob", ",t1,1,bob", "missing_key", "clips.csv row 2: column id: '' is empty"),
        ("b,t1,1,bob", "b,,1,bob", "missing_key", "column talk: '' is empty"),
        ("b,t1,1,bob", "b,t1,one,bob", "bad_turn", "column place: 'one' is no whole number"),
        ("b,t1,1,bob", "b,t1,1.5,bob", "bad_turn", "column place: '1.5' is no whole number"),
        ("b,t1,1,bob", "b,t1,,bob", "bad_turn", "column place: '' is no whole number"),
        ("b,1.5,2.75", 'b,"1,5",2.75', "bad_times", "column from: '1,5' is no number of seconds"),
        ("b,1.5,2.75", "b,1.5,inf", "bad_times", "column to: 'inf' is no number of seconds"),
        ("b,1.5,2.75", "b,3,2.75", "bad_times", "3.0 to 2.75 seconds is no span"),
        (",dev,", ",trial,", "unknown_split", "split 'trial' is none of train"),
        ("r1,b,1.5", "r1,x,1.5", "missing_media", "wav/x.wav does not exist"),
        ("r1,b,1.5", "r1,../x,1.5", "bad_path", "lies outside the corpus's folder"),
    ],
)
def test_bad_fields_name_row_column_and_value(root, old, new, reason, says):
    edit(root, old, new)
    tables = ingested("mine", OPTIONS, 0.5, adapter="table")
    counts = reasons(tables["quarantine"])
    assert reason in counts
    assert says in " ".join(tables["quarantine"]["detail"])
    kept, aside = tables["utterances"].height, counts[reason]
    assert kept + aside == 4


def test_a_bad_judgement_is_named_and_the_utterance_stays(root):
    edit(root, "joy,4,5", "joy,4,7")
    edit(root, "anger,2,1", 'anger,"2,5",1')
    tables = stages(OPTIONS)
    assert reasons(tables["quarantine"]) == {"not_numeric": 1}
    assert "rater ann: valence = 2,5 is unusable" in tables["quarantine"]["detail"][0]
    assert reasons(tables["labels_quarantine"]) == {"out_of_range": 1}
    assert tables["labels"]["valence"].to_list() == [0.5, -1.0, 0.0, -1.0]


def test_rows_alone_are_dialogues_and_order_is_the_turn(root):
    columns = {key: COLUMNS[key] for key in ("utterance", "text")}
    rows = read(root, {"file": "clips.csv", "columns": columns}).utterances
    assert rows["utterance_id"].to_list() == ["a/a", "b/b", "c/c", "d/d"]
    assert rows["turn"].to_list() == [0, 0, 0, 0]
    columns["dialogue"] = "talk"
    rows = read(root, {"file": "clips.csv", "columns": columns}).utterances
    assert rows["turn"].to_list() == [0, 1, 0, 1]
    assert rows["media"].null_count() == rows["start_s"].null_count() == 4


def test_regions_come_from_one_column_or_four(root):
    table = ["id,box,l,t,r,b", "a,0 0 0.5 1,0,0,0.5,1", "b,,,,,", "c,0;0;1,0,0,1,"]
    write_text(root / "boxes.csv", "\n".join([*table, "d,[0.5; 0; 1; 1],0.5,0,1,1\n"]))
    one = read(root, {"file": "boxes.csv", "columns": {"utterance": "id", "region": "box"}})
    four = {"utterance": "id", "region": ["l", "t", "r", "b"]}
    many = read(root, {"file": "boxes.csv", "columns": four})
    for found in (one, many):
        wanted = [[0.0, 0.0, 0.5, 1.0], None, [0.5, 0.0, 1.0, 1.0]]
        assert found.utterances["region"].to_list() == wanted
        assert reasons(found.quarantine) == {"bad_region": 1}
        assert "boxes.csv row 3" in found.quarantine["detail"][0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"file": "none.csv"}, "none.csv does not exist"),
        ({"file": "wav/a.wav"}, "tables of kind '.wav' are not read"),
        ({"columns": {"utterance": "key"}}, "lacks column 'key'"),
        ({"columns": {"utterance": "Id "}}, "did you mean 'id'?"),
        ({"delimiter": ";"}, "seem to be separated by ','"),
        ({"columns": {"dialogue": "talk"}}, "columns needs `utterance`"),
        ({"columns": {"utterance": "id", "clip": "clip"}}, "columns.clip"),
        ({"constants": {"speaker": "x"}}, "speaker is both in columns and in constants"),
        ({"media": "wav/"}, "media needs {} once"),
        ({"labels": {"targets": {"valence": {"column": "v_ann"}}}}, "declare its `scale`"),
        ({"labels": {"targets": {"valense": {"column": "v"}}}}, "no target is called 'valense'"),
        ({"labels": {"targets": {"category": {}}}}, "name its `column`, or its `columns`"),
        ({"labels": {**WIDE, "rater": "who"}}, "`columns` name raters already"),
        ({"labels": {"target": "what"}}, "needs `value`, `label` or both"),
        ({"encoding": "ascii-8"}, "no encoding is called 'ascii-8'"),
        ({"colums": {}}, "did you mean 'columns'"),
        ({"metric": "accuracy"}, "there is no option 'metric'"),
    ],
)
def test_mistakes_in_options_say_what_to_do(root, change, says):
    with pytest.raises(UserError, match=says.replace("{}", r"\{\}")):
        read(root, {**OPTIONS, **change})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"id,words\na,b\nc\n", r"Row #3: Expected 2 columns, got 1"),
        ("t.csv", b"id,words\na,b,c\n", r"Expected 2 columns, got 3"),
        ("t.csv", b"id,id\na,b\n", "two columns are called 'id'"),
        ("t.csv", b"id,words\na,caf\xe9\n", "is not utf-8 text; save it as UTF-8"),
        ("t.jsonl", b'{"id": "a", "words": "b"}\n{"id": \n', "t.jsonl line 2 is no JSON"),
        ("t.jsonl", b"[1]\n", "line 1 is no JSON object"),
        ("t.jsonl", b'{"id": "a", "words": {"x": 1}}\n', "line 1: words is nested"),
        ("t.jsonl", b'{"id": "a"}\n', "lacks column 'words'"),
        ("t.parquet", b"PAR1 spoilt", "not readable as Parquet"),
    ],
)
def test_broken_files_are_errors_that_name_the_place(root, name, content, says):
    (root / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        read(root, {"file": name, "columns": {"utterance": "id", "text": "words"}})
    assert name in str(error.value)


def test_a_column_that_is_called_as_our_count_of_rows_is_refused(root):
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        write_text(root / "t.csv", "row\na\n")
        write_text(root / "t.jsonl", '{"row": "a"}\n')
        pl.DataFrame({"row": ["a"]}).write_parquet(root / "t.parquet")
        with pytest.raises(UserError, match=r"a column is called 'row'.*rename it"):
            read(root, {"file": name, "columns": {"utterance": "row"}})


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_is_read(root, end):
    (root / "t.csv").write_bytes(end.join(["id,words", "01,x", "02,y", ""]).encode())
    options = {"file": "t.csv", "columns": {"utterance": "id", "text": "words"}}
    assert read(root, options).utterances["text"].to_list() == ["x", "y"]


def test_a_cell_may_be_longer_than_a_block_of_the_reader(root):
    long = "two\nlines " * 200_000
    write_text(root / "t.csv", f'id,words\na,"{long}"\n')
    options = {"file": "t.csv", "columns": {"utterance": "id", "text": "words"}}
    assert read(root, options).utterances["text"][0] == long.strip()


def test_blocks_cut_no_row_and_count_on(root):
    cells = [f"{'x' * (n % 50)}, \n{n}" for n in range(300)]
    write_text(root / "t.csv", "id,words\n" + "".join(f'{n},"{c}"\n' for n, c in enumerate(cells)))
    frame = read_csv(root / "t.csv", block=100)
    assert frame["words"].to_list() == cells
    assert frame["row"].to_list() == list(range(1, 301))
    assert frame.equals(read_csv(root / "t.csv"))


def test_only_line_ends_end_a_line_of_json(root):
    write_text(root / "t.jsonl", '{"id": "a", "words": "x\u2028y\x85z"}\r\n{"id": "b"}')
    options = {"file": "t.jsonl", "columns": {"utterance": "id", "text": "words"}}
    assert read(root, options).utterances["text"].to_list() == ["x\u2028y\x85z", None]


def test_words_of_splits_are_known_in_any_case(root):
    write_text(root / "t.csv", "id,part\na,Train\nb,DEV\nc,Test\nd,holdout\ne,x\nf,\n")
    options = {"file": "t.csv", "columns": {"utterance": "id", "split": "part"}}
    rows = read(root, {**options, "splits": {"x": "test"}}).utterances
    assert rows["published_split"].to_list() == [
        "train",
        "validation",
        "test",
        "holdout",
        "test",
        None,
    ]


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_an_empty_list_is_a_set_without_labels_and_null_no_judgement(root, name):
    rows = [{"id": "a", "l": ["x", "y"]}, {"id": "b", "l": []}, {"id": "c", "l": None}]
    write_text(root / "t.jsonl", "\n".join(map(json.dumps, rows)))
    pl.DataFrame(rows).write_parquet(root / "t.parquet")
    labels = {"targets": {"categories": {"column": "l"}}}
    columns = {"utterance": "id", "text": "l"}
    found = read(root, {"file": name, "columns": columns, "labels": labels})
    assert found.utterances["text"].to_list()[1:] == [None, None]
    judged = found.annotations.select("utterance_id", "label", "value").rows()
    assert judged == [("a/a", "x", None), ("a/a", "y", None), ("b/b", "x", "0")]


def test_types_are_not_taken_from_the_first_rows(root):
    ids = [f"{n:04d}" for n in range(300)] + ["x1"]
    write_text(root / "t.csv", "\ufeffid\n" + "".join(f"{name}\n" for name in ids))
    rows = read(root, {"file": "t.csv", "columns": {"utterance": "id"}}).utterances
    assert rows["dialogue_id"].to_list() == ids
    lines = [json.dumps({"id": n}) for n in range(200)] + [json.dumps({"id": "x1"})]
    write_text(root / "t.jsonl", "\n".join(lines))
    rows = read(root, {"file": "t.jsonl", "columns": {"utterance": "id"}}).utterances
    assert rows["dialogue_id"].to_list() == [*map(str, range(200)), "x1"]


def test_a_named_encoding_is_obeyed_and_an_empty_table_is_empty(root):
    (root / "t.csv").write_bytes("id,words\na,café\n".encode("cp1252"))
    options = {"file": "t.csv", "columns": {"utterance": "id", "text": "words"}}
    rows = read(root, {**options, "encoding": "cp1252"}).utterances
    assert rows["text"].to_list() == ["café"]
    write_text(root / "t.csv", "id,words\n")
    assert read(root, options).utterances.height == 0


def test_counts_that_were_expected_are_compared(root):
    expected = {"utterances": 5, "dialogues": 2}
    edit(root, "r1,b,1.5", "r1,x,1.5")
    ingested("mine", {**OPTIONS, "expected": expected}, 0.5, adapter="table")
    assert counts_of("mine")["findings"] == [
        "mine: expected 5 utterances, found 3: missing 2: 1 set aside (mine/t1/b); "
        "1 nowhere in the folder"
    ]


words = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff"), min_size=1
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(cells=st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_text_survives_reading_unchanged(tmp_path, cells):
    path = tmp_path / "t.csv"
    quoted = [
        "{}\n".format(",".join('"' + c.replace('"', '""') + '"' for c in row)) for row in cells
    ]
    write_text(path, "".join(["one,two\n", *quoted]))
    frame = read_csv(path)
    assert list(zip(frame["one"], frame["two"], strict=True)) == cells
    assert frame["row"].to_list() == list(range(1, len(cells) + 1))


def table_bytes(options: dict) -> dict[str, bytes]:
    """What ingest writes of a table."""
    folder = Path("data/corpora/mine")
    ingested("mine", options, 0.9, adapter="table")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("form", ["wide", "long"])
@pytest.mark.parametrize("turn", [True, False])
def test_tables_read_in_parts_are_the_same(root, monkeypatch, kind, form, turn):
    edit(root, "d,t2,1,eve,r2,d,1,2", "e,t2,x,eve,r2,d,1,2\nf,t2,0.0,eve,r2,d,1,2")
    frame = pl.read_csv(root / "clips.csv", infer_schema=False).with_columns(pl.col("emotion"))
    save(frame, root / f"clips.{kind}")
    columns = COLUMNS if turn else {k: v for k, v in COLUMNS.items() if k != "turn"}
    options = {**OPTIONS, "file": f"clips.{kind}", "columns": columns}
    if form == "long":
        says = [("b", "valence", "2"), ("a", "valence", "odd"), ("z", "category", "joy")]
        says += [("b", "arousal", None), ("c", "valence", "5"), ("a", "valence", "1")]
        save(pl.DataFrame(says, ("id", "of", "says"), orient="row"), root / f"votes.{kind}")
        labels = {"file": f"votes.{kind}", "target": "of", "value": "says"}
        scale = {"scale": [1, 5]}
        options["labels"] = {**labels, "targets": {"valence": scale, "arousal": scale}}
    whole = table_bytes(options)
    assert len(whole) == 3
    monkeypatch.setattr(text_blocks, "_PIECE", 3)
    for cells in (1, 2, 6):
        monkeypatch.setattr(table_rows, "CELLS", cells)
        found = table_bytes(options)
        assert found.keys() == whole.keys()
        for name in ("utterances.parquet", "annotations.parquet"):
            assert found[name] == whole[name]
        # judgements are counted in the order in which they are read
        rows = [
            pl.read_parquet(data).with_columns(pl.col("detail").str.replace(r"^row \d+", "row"))
            for data in (found["quarantine.parquet"], whole["quarantine.parquet"])
        ]
        assert rows[0].equals(rows[1])


def save(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as what the path's suffix says."""
    if path.suffix == ".parquet":
        frame.write_parquet(path, row_group_size=2)
    elif path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path)


def test_what_only_all_parts_show_is_found_in_parts_too(root, monkeypatch):
    monkeypatch.setattr(table_rows, "CELLS", 1)
    edit(root, ",4,5", ",4,")
    edit(root, ",3,3", ",3,")
    edit(root, ",2,1", ",2,")
    found = read(root, OPTIONS)
    assert len(list(found.further_annotations)) == 3
    only = {"valence": {"column": "v_bob", "scale": [1, 5]}}
    found = read(root, {**OPTIONS, "labels": {"targets": only}})
    with pytest.raises(UserError, match=r"valence is blank in all 4 rows \(column v_bob\)"):
        list(found.further_annotations)


@pytest.mark.parametrize("groups", [[5], [1] * 9, [2, 7, 1, 1], []])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_parquet_is_cut_at_row_groups_unless_they_are_long(tmp_path, monkeypatch, groups, rows):
    monkeypatch.setattr(table_files, "_MOST_ROWS", 4)
    path = tmp_path / "t.parquet"
    schema = pa.schema({"id": pa.string()})
    done = 0
    with pq.ParquetWriter(path, schema) as writer:
        for size in groups:
            ids = [str(n) for n in range(done, done + size)]
            writer.write_table(pa.table({"id": ids}, schema))
            done += size
    parts = list(read_table_parts(path, ["id"], None, "utf-8", rows))
    whole = pl.concat(parts)
    assert whole["id"].to_list() == [str(n) for n in range(done)]
    assert whole["row"].to_list() == list(range(1, done + 1))
    assert all(0 < part.height <= rows for part in parts) or not groups


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data in {SHARED}")
def test_iemocap_of_the_papers_has_7433_turns_of_which_six_leave_their_scale(project):
    link(project, "iemocap_text.parquet")
    scale = [1, 5]
    options = {
        "file": "iemocap_text.parquet",
        "columns": {
            "utterance": "utterance_id",
            "dialogue": "dialogue_id",
            "turn": "turn",
            "speaker": "speaker_id",
            "session": "session",
            "start_s": "start_time",
            "end_s": "end_time",
            "text": "text",
            "split": "split",
        },
        "constants": {"language": "en"},
        "expected": {"utterances": 7433, "dialogues": 151},
        "labels": {
            "targets": {
                "category": {"column": "label"},
                "valence": {"column": "valence", "scale": scale},
                "arousal": {"column": "activation", "scale": scale},
                "dominance": {"column": "dominance", "scale": scale},
            }
        },
    }
    tables = stages(options)
    assert tables["utterances"].height == 7433
    assert tables["utterances"]["dialogue_id"].n_unique() == 151
    assert counts_of("mine")["findings"] == []
    assert tables["quarantine"].height == 0
    assert reasons(tables["labels_quarantine"]) == {"out_of_range": 6}
    kept = tables["labels"].drop_nulls("valence")
    assert kept.height == 7427
    means = [round(kept[name].mean(), 4) for name in ("valence", "arousal", "dominance")]
    assert means == [-0.1234, 0.0526, 0.1040]
    split = tables["splits"].group_by("split").len().sort("split").rows()
    assert split == [("test", 1623), ("train", 5163), ("validation", 647)]


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data in {SHARED}")
def test_mosi_has_2199_segments_of_93_videos(project):
    link(project, "mosi_bclstm.parquet")
    options = {
        "file": "mosi_bclstm.parquet",
        "columns": {
            "utterance": "utterance_id",
            "dialogue": "video_id",
            "turn": "order",
            "speaker": "video_id",
            "text": "transcript",
            "split": "split_merbench",
        },
        "expected": {"utterances": 2199, "dialogues": 93},
        "labels": {"targets": {"sentiment": {"column": "sentiment", "scale": [-3, 3]}}},
    }
    tables = stages(options, split_params={"stratify": "sentiment"})
    assert tables["utterances"].height == 2199
    assert tables["utterances"]["dialogue_id"].n_unique() == 93
    assert counts_of("mine")["findings"] == []
    assert tables["quarantine"].height == tables["labels_quarantine"].height == 0
    assert (tables["labels"]["sentiment"] == 0).sum() == 96
    split = tables["splits"].group_by("split").len().sort("split").rows()
    assert split == [("test", 686), ("train", 1284), ("validation", 229)]


def link(project: Path, name: str) -> None:
    folder = project / "data/raw/mine"
    folder.mkdir(parents=True)
    (folder / name).symlink_to(SHARED / name)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_blanks_around_a_medium_are_part_of_its_name_where_a_file_is_called_so(root, kind):
    for salt, name in enumerate((" a", "b ", " c ")):
        write_wav(root / f"wav/{name}.wav", 9 + salt)
    clips = [" a", "b ", "c ", "d\t"]
    table = pl.DataFrame({"id": list("abcd"), "clip": clips})
    options = {
        "file": f"t.{kind}",
        "columns": {"utterance": "id", "media": "clip"},
        "media": "wav/{}.wav",
    }
    getattr(table, f"write_{kind}")(root / f"t.{kind}")
    media = read(root, options).utterances["media"].to_list()
    assert media == ["wav/ a.wav", "wav/b .wav", "wav/c.wav", "wav/d.wav"]
    found = ingested("mine", options, 1.0, adapter="table")
    assert found["utterances"]["media"].to_list() == [f"mine/{name}" for name in media]
    assert found["quarantine"].height == 0
