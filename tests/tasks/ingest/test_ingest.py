"""Stage ``ingest``: ids, hashes, quarantine, counts, with a toy adapter over generated files."""

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from models.errors import UserError
from tasks.corpora.adapter import Corpus, ProtocolCard
from tasks.ingest import judgements as ingest_judgements
from tasks.ingest import stage as ingest
from tasks.media import hashes as media_hashes
from tasks.plain_context import PlainContext
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.parquet import read_metadata, read_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES
from tests.places import here


class Listening(PlainContext):
    """A context that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(stage="ingest")
        self.said: list[str] = []

    def log(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFECTLOOM_CACHE", str(tmp_path / "cache"))
    here().raw("toy").mkdir(parents=True)
    return tmp_path


def row(dialogue: str, turn: int, **more) -> dict:
    media = f"{dialogue}_{turn}.wav"
    base = {
        "utterance_id": f"{dialogue}/u{turn}",
        "dialogue_id": dialogue,
        "turn": turn,
        "speaker": "ann",
        "media": media,
        "text": f"line {turn}",
    }
    return base | more


def judgement(utterance: str, rater: str = "r1", **more) -> dict:
    base = {"utterance_id": utterance, "rater": rater, "target": "valence", "source": "toy.csv"}
    return base | {"value": 3.0, "scale_min": 1.0, "scale_max": 5.0} | more


def corpus(rows: list[dict], judgements: list[dict] | pl.DataFrame = (), card=None, unread=()):
    names = [name for name in UTTERANCES.columns if name != "media_sha256"]
    schema = {name: UTTERANCES.schema[name] for name in names}
    utterances = pl.DataFrame({n: [r.get(n) for r in rows] for n in names}, schema=schema)
    if not isinstance(judgements, pl.DataFrame):
        judgements = ANNOTATIONS.frame(list(judgements))
    return Corpus(
        utterances, judgements, QUARANTINE.frame(list(unread)), card or ProtocolCard("toy")
    )


def put_media(rows: list[dict]) -> None:
    for r in rows:
        if r["media"]:
            (here().raw("toy") / r["media"]).write_bytes(f"sound of {r['media']}".encode())


def run(monkeypatch, found: Corpus, ctx=None, **params) -> pl.DataFrame:
    monkeypatch.setattr(ingest, "find_adapter", lambda name: lambda root, options: found)
    params = {"adapter": "toy", "max_quarantine_fraction": 1.0} | params
    ingest.run(ingest.IngestParams(**params), here(), ctx or Listening(), "toy")
    return read_table(UTTERANCES, here().utterances("toy"))


def quarantine() -> dict[str, str]:
    frame = read_table(QUARANTINE, here().quarantine("toy"))
    return dict(zip(frame["utterance_id"], frame["reason"], strict=True))


def details() -> str:
    return " ".join(read_table(QUARANTINE, here().quarantine("toy"))["detail"])


GOOD = [row("d1", 0), row("d1", 1), row("d2", 0)]


def test_ids_and_media_get_the_corpus_before_them(monkeypatch):
    put_media(GOOD)
    table = run(monkeypatch, corpus(GOOD, [judgement("d1/u0")]))
    assert table["utterance_id"].to_list() == ["toy/d1/u0", "toy/d1/u1", "toy/d2/u0"]
    assert table["dialogue_id"].to_list() == ["toy/d1", "toy/d1", "toy/d2"]
    assert table["media"][0] == "toy/d1_0.wav"
    assert (here().media_root / table["media"][0]).exists()
    judged = read_table(ANNOTATIONS, here().annotations("toy"))
    assert judged["utterance_id"].to_list() == ["toy/d1/u0"]
    assert quarantine() == {}


def test_media_hash_is_sha256_of_the_bytes(monkeypatch):
    put_media(GOOD)
    table = run(monkeypatch, corpus(GOOD))
    expected = hashlib.sha256((here().media_root / "toy/d1_0.wav").read_bytes()).hexdigest()
    assert table["media_sha256"][0] == expected


def test_missing_media_names_file_and_remedy_and_takes_judgements_along(monkeypatch):
    put_media(GOOD[1:])
    table = run(monkeypatch, corpus(GOOD, [judgement("d1/u0"), judgement("d1/u0", "r2")]))
    assert table.height == 2
    assert quarantine() == {"toy/d1/u0": "missing_media"}
    assert "d1_0.wav does not exist" in details()
    assert "2 judgements go with it" in details()
    assert read_table(ANNOTATIONS, here().annotations("toy")).height == 0


def test_all_media_missing_is_an_error_that_writes_nothing(monkeypatch):
    with pytest.raises(UserError, match="none of the 3 media files can be used"):
        run(monkeypatch, corpus(GOOD))
    assert not here().utterances("toy").exists()


def test_a_corpus_without_media_is_fine(monkeypatch):
    rows = [r | {"media": None} for r in GOOD]
    table = run(monkeypatch, corpus(rows))
    assert table["media"].null_count() == table["media_sha256"].null_count() == 3


def test_empty_files_and_git_lfs_pointers_are_set_aside_by_name(monkeypatch):
    put_media(GOOD)
    (here().raw("toy") / "d1_0.wav").write_bytes(b"")
    (here().raw("toy") / "d1_1.wav").write_text("version https://git-lfs.github.com/spec/v1\noid")
    run(monkeypatch, corpus(GOOD))
    assert quarantine() == {"toy/d1/u0": "empty_media", "toy/d1/u1": "lfs_pointer"}
    assert "git lfs pull" in details()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"utterance_id": "u0"}, "bad_id"),
        ({"turn": None}, "bad_turn"),
        ({"turn": -1}, "bad_turn"),
        ({"start_s": 2.0, "end_s": 2.0}, "bad_times"),
        ({"start_s": -1.0, "end_s": 2.0}, "bad_times"),
        ({"start_s": float("nan"), "end_s": 2.0}, "bad_times"),
        ({"end_s": 1e300}, "bad_times"),
        ({"start_s": 1.7e18, "end_s": 1.8e18}, "bad_times"),  # nanoseconds since 1970
        ({"media": "../elsewhere.wav"}, "bad_path"),
        ({"media": "a\0b.wav"}, "bad_path"),
        ({"media": "a" * 5_000}, "bad_path"),
        ({"media": "."}, "missing_media"),
        ({"media": "/etc/hostname"}, "bad_path"),
        ({"region": [0.0, 0.0, 1.5, 1.0]}, "bad_region"),
        ({"region": [0.5, 0.0, 0.5, 1.0]}, "bad_region"),
        ({"region": [0.5]}, "bad_region"),
        ({"region": [0.0, 0.0, float("nan"), 1.0]}, "bad_region"),
        ({"region": [float("nan"), 0.0, 1.0, 1.0]}, "bad_region"),
        ({"region": [None, 0.0, 1.0, 1.0]}, "bad_region"),
        ({"published_split": "dev"}, "unknown_split"),
    ],
)
def test_unusable_rows_are_set_aside_with_a_reason(monkeypatch, change, reason):
    put_media(GOOD)
    rows = [GOOD[0] | change, *GOOD[1:]]
    table = run(monkeypatch, corpus(rows))
    assert table.height == 2
    assert list(quarantine().values()) == [reason]


def test_a_row_without_id_is_named_by_its_number(monkeypatch):
    put_media(GOOD)
    run(monkeypatch, corpus([*GOOD, GOOD[0] | {"utterance_id": " "}]))
    assert quarantine() == {"toy/?/4": "missing_key"}


def test_equal_rows_keep_one_copy_and_different_rows_of_one_id_keep_none(monkeypatch):
    put_media(GOOD)
    rows = [*GOOD, GOOD[0], GOOD[1] | {"text": "other words"}]
    table = run(monkeypatch, corpus(rows))
    assert table["utterance_id"].to_list() == ["toy/d1/u0", "toy/d2/u0"]
    found = read_table(QUARANTINE, here().quarantine("toy"))
    assert sorted(found["reason"]) == ["duplicate_id", "duplicate_id", "duplicate_row"]


def test_every_adapter_row_is_kept_or_quarantined(monkeypatch):
    rows = [
        *GOOD,
        GOOD[0],
        row("d3", 0) | {"turn": -1},
        row("d3", 1),
        row("d3", 2, utterance_id=None),
    ]
    put_media(GOOD)
    table = run(monkeypatch, corpus(rows))
    found = read_table(QUARANTINE, here().quarantine("toy"))
    assert table.height + found.height == len(rows)
    counts = json.loads(read_metadata(here().utterances("toy"))["counts"])
    assert counts["adapter_rows"] == len(rows)
    assert counts["utterances"] == table.height
    assert sum(counts["quarantined"].values()) == found.height


def test_orphan_judgements_go_to_quarantine(monkeypatch):
    put_media(GOOD)
    run(monkeypatch, corpus(GOOD, [judgement("d9/u0"), judgement("d9/u0", "r2")]))
    assert quarantine() == {"toy/d9/u0": "orphan_label"}
    assert "source toy.csv: 2 judgements of an utterance that does not exist" in details()


def test_judgements_that_are_no_numbers_take_their_family_along(monkeypatch):
    put_media(GOOD)
    texts = {"d1/u0": "3,5", "d1/u1": " nan ", "d2/u0": "inf"}
    rows = [judgement(u, value=None, label="x") for u in texts]
    rows += [judgement(u, target="arousal", value=None, label="x") for u in texts]
    frame = ANNOTATIONS.frame(rows).with_columns(
        value=pl.Series([*texts.values(), "4.0", "4.0", "4.0"]),
        label=pl.lit(None, pl.String),
    )
    run(monkeypatch, corpus(GOOD, frame))
    assert quarantine() == {
        "toy/d1/u0": "not_numeric",
        "toy/d1/u1": "missing_value",
        "toy/d2/u0": "not_finite",
    }
    assert read_table(ANNOTATIONS, here().annotations("toy")).height == 0
    assert "valence = 3,5" in details()


def test_judgements_of_which_none_is_usable_stop_the_stage_after_saying_which(monkeypatch):
    put_media(GOOD)
    rows = [judgement(u, value=None, label="x") for u in ("d1/u0", "d1/u1")]
    frame = ANNOTATIONS.frame(rows).with_columns(
        value=pl.Series(["3,5", "4,0"]), label=pl.lit(None, pl.String)
    )
    with pytest.raises(UserError, match=r"none of the 2 judgements is usable.*valence = 3,5"):
        run(monkeypatch, corpus(GOOD, frame), max_quarantine_fraction=0.2)
    assert set(quarantine().values()) == {"not_numeric"}
    assert not here().utterances("toy").exists()


def test_counts_that_differ_from_the_published_ones_are_told_not_fatal(monkeypatch):
    put_media(GOOD[1:])
    ctx = Listening()
    card = ProtocolCard("toy", expected_utterances=7433, expected_dialogues=3)
    run(monkeypatch, corpus(GOOD, [judgement("d9/u7")], card), ctx)
    first = next(m for m in ctx.said if "utterances" in m)
    assert first.startswith("toy: expected 7,433 utterances, found 2: missing 7,431")
    assert "1 set aside (toy/d1/u0)" in first
    assert "1 with judgements but no utterance (toy/d9/u7)" in first
    assert "toy: expected 3 dialogues, found 2: missing 1" in ctx.said
    assert json.loads(read_metadata(here().utterances("toy"))["counts"])["findings"]


def test_matching_counts_say_nothing(monkeypatch):
    put_media(GOOD)
    ctx = Listening()
    run(monkeypatch, corpus(GOOD, card=ProtocolCard("toy", expected_utterances=3)), ctx)
    assert ctx.said == []


def test_too_many_unusable_rows_stop_the_stage_after_saying_which(monkeypatch):
    put_media(GOOD[1:])
    with pytest.raises(UserError, match=r"1 of 3 utterances \(33.3%\).*missing_media"):
        run(monkeypatch, corpus(GOOD), max_quarantine_fraction=0.3)
    assert quarantine() == {"toy/d1/u0": "missing_media"}
    assert not here().utterances("toy").exists()


def test_the_adapters_own_quarantine_passes_through(monkeypatch):
    put_media(GOOD)
    unread = [{"utterance_id": "?/17", "stage": "ingest", "reason": "broken_line", "detail": "x"}]
    run(monkeypatch, corpus(GOOD, unread=unread))
    assert quarantine() == {"toy/?/17": "broken_line"}


def test_an_adapter_with_a_wrong_column_is_named(monkeypatch):
    found = corpus(GOOD)
    wrong = Corpus(
        found.utterances.rename({"turn": "trun"}), found.annotations, found.quarantine, found.card
    )
    with pytest.raises(UserError, match="adapter toy: its table utterances lacks column turn"):
        run(monkeypatch, wrong)


def test_optional_columns_may_be_absent(monkeypatch):
    put_media(GOOD)
    found = corpus(GOOD)
    lean = Corpus(
        found.utterances.drop("region", "session", "language"),
        found.annotations,
        found.quarantine,
        found.card,
    )
    assert run(monkeypatch, lean)["session"].null_count() == 3


def test_the_card_travels_with_the_annotations(monkeypatch):
    put_media(GOOD)
    card = ProtocolCard("toy", label_map={"hap": "happy"}, scales={"valence": (1.0, 5.0, -1)})
    run(monkeypatch, corpus(GOOD, card=card))
    found = json.loads(read_metadata(here().annotations("toy"))["card"])
    assert found["label_map"] == {"hap": "happy"}
    assert found["scales"] == {"valence": [1.0, 5.0, -1]}


def test_row_order_does_not_change_the_bytes(monkeypatch):
    put_media(GOOD)
    judged = [judgement("d1/u0"), judgement("d1/u1"), judgement("d1/u0", "r2")]
    run(monkeypatch, corpus(GOOD, judged))
    before = here().utterances("toy").read_bytes(), here().annotations("toy").read_bytes()
    run(monkeypatch, corpus(GOOD[::-1], judged[::-1]))
    assert before == (here().utterances("toy").read_bytes(), here().annotations("toy").read_bytes())


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_judgements_come_in_parts_and_the_tables_do_not_tell(monkeypatch, size):
    put_media(GOOD)
    monkeypatch.setattr(ingest_judgements, "RANGE", 2)
    rows = [
        judgement("d1/u0", label="x"),
        judgement("d2/u0", value=None, target="category", label="joy"),
        judgement("d9/u9"),
        judgement("d1/u1"),
        judgement("d1/u0", value=None),  # sets aside the first, in another part
        judgement("d1/u0", "r2"),
        judgement("d9/u9", value=float("inf")),  # and this one a judgement of nobody's
        judgement("d9/u9", "r3"),
        judgement("d2/u0", "r2", position=1, value=None, target="categories", label="joy"),
    ]
    broken = row("d3", 0) | {"turn": -1}
    rows += [judgement("d3/u0"), judgement("d3/u0", "r2")]
    whole = corpus([*GOOD, broken], rows)
    run(monkeypatch, whole)
    paths = (here().annotations("toy"), here().quarantine("toy"), here().utterances("toy"))
    before = [path.read_bytes() for path in paths]
    judged = read_table(ANNOTATIONS, paths[0]).select("utterance_id", "rater").rows()
    assert judged == [
        ("toy/d1/u0", "r2"),
        ("toy/d1/u1", "r1"),
        ("toy/d2/u0", "r1"),
        ("toy/d2/u0", "r2"),
    ]
    assert "source toy.csv: 1 judgements of an utterance that does not exist" in details()
    assert "(2 judgements go with it)" in details()
    parts = list(whole.annotations.iter_slices(size))
    cut = replace(whole, annotations=parts[0], further_annotations=iter(parts[1:]))
    run(monkeypatch, cut)
    assert [path.read_bytes() for path in paths] == before
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(
        path.name for path in paths
    )


def test_an_unknown_key_of_the_params_is_refused():
    with pytest.raises(ValueError, match="adaptor"):
        ingest.IngestParams(adapter="toy", adaptor="x")  # type: ignore[call-arg]


def test_a_folder_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setattr(ingest, "find_adapter", lambda name: None)
    with pytest.raises(UserError, match="data/raw/nowhere does not exist"):
        ingest.run(ingest.IngestParams(adapter="toy"), here(), Listening(), "nowhere")


def age(path: Path) -> None:
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))


def test_settled_files_are_hashed_once_and_changed_files_again(project, monkeypatch):
    put_media(GOOD)
    names = [f"toy/{r['media']}" for r in GOOD]
    for name in names:
        age(here().media_root / name)
    hashed: list[str] = []
    plain = media_hashes.hash_file
    monkeypatch.setattr(
        media_hashes, "hash_file", lambda path: hashed.append(path.name) or plain(path)
    )
    first = media_hashes.hash_media(here(), names, Listening(), "toy")
    second = media_hashes.hash_media(here(), names, Listening(), "toy")
    assert first.equals(second)
    assert sorted(hashed) == ["d1_0.wav", "d1_1.wav", "d2_0.wav"]
    changed = here().media_root / names[0]
    changed.write_bytes(b"something else, of another length")
    third = media_hashes.hash_media(here(), names, Listening(), "toy")
    assert hashed[3:] == ["d1_0.wav"]
    assert third["sha256"][0] == hashlib.sha256(changed.read_bytes()).hexdigest()


def test_a_file_that_changed_just_now_is_not_remembered(monkeypatch):
    put_media(GOOD[:1])
    name = "toy/d1_0.wav"
    media_hashes.hash_media(here(), [name], Listening(), "toy")
    stat = (here().media_root / name).stat()
    (here().media_root / name).write_bytes(b"SOUND OF D1_0.WAV")  # same size
    os.utime(here().media_root / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = media_hashes.hash_media(here(), [name], Listening(), "toy")
    assert again["sha256"][0] == hashlib.sha256(b"SOUND OF D1_0.WAV").hexdigest()


def test_a_broken_hash_memory_is_replaced(project):
    put_media(GOOD[:1])
    memory = here().cache / "media_hashes" / "toy.parquet"
    memory.parent.mkdir(parents=True)
    memory.write_bytes(b"not parquet")
    age(here().media_root / "toy/d1_0.wav")
    found = media_hashes.hash_media(here(), ["toy/d1_0.wav"], Listening(), "toy")
    assert found["sha256"].null_count() == 0
    assert pl.read_parquet(memory).height == 1


@pytest.mark.parametrize(
    ("on_disk", "in_source", "told"),
    [
        ("caf\u00e9.wav", "cafe\u0301.wav", "another Unicode form (NFC)"),
        ("cafe\u0301.wav", "caf\u00e9.wav", "another Unicode form (NFD)"),
        ("clips/a.wav", "clips\\a.wav", "write '/' for '\\'"),
        ("b.wav", "a.wav", "put the file there"),
    ],
)
def test_a_missing_file_is_told_from_one_whose_name_only_looks_alike(
    tmp_path, on_disk, in_source, told
):
    (tmp_path / on_disk).parent.mkdir(exist_ok=True)
    (tmp_path / on_disk).write_bytes(b"sound")
    _, _, reason, detail = media_hashes._stat(tmp_path, in_source)
    assert reason == "missing_media"
    assert told in detail


def test_a_link_out_of_the_corpus_is_set_aside_unless_its_folder_is_allowed(monkeypatch, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    put_media(GOOD)
    clip = here().raw("toy") / GOOD[0]["media"]
    clip.rename(away / "clip.wav")
    clip.symlink_to(away / "clip.wav")
    run(monkeypatch, corpus(GOOD, [judgement("d1/u1")]))
    assert quarantine() == {"toy/d1/u0": "link_outside"}
    assert f"is a link to {away / 'clip.wav'}, outside the corpus's folder" in details()
    assert run(monkeypatch, corpus(GOOD), media=[str(away)]).height == 3
    assert quarantine() == {}


def test_links_within_the_corpus_and_into_the_cache_of_dvc_are_followed(monkeypatch, tmp_path):
    put_media(GOOD)
    first, second = (here().raw("toy") / row["media"] for row in GOOD[:2])
    first.rename(first.with_name("moved"))
    first.symlink_to("moved")
    kept = tmp_path / "cache" / "files" / "md5" / "ab" / ("0" * 30)
    kept.parent.mkdir(parents=True)
    second.rename(kept)
    second.symlink_to(kept)
    assert run(monkeypatch, corpus(GOOD)).height == 3


def test_an_address_is_no_medium(monkeypatch):
    put_media(GOOD)
    rows = [*GOOD[:2], GOOD[2] | {"media": "https://example.org/a.wav"}]
    run(monkeypatch, corpus(rows, [judgement("d1/u0")]))
    assert quarantine() == {"toy/d2/u0": "bad_path"}
    assert "nothing is downloaded" in details()
