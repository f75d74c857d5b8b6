"""Tiny corpora in their true layout, generated: names, folders and tables as the makers give them.

Every ``grow_<corpus>`` writes below ``root`` and leaves some awkward rows, named in its docstring.
"""

import wave
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from scipy.io import savemat

from tasks.ingest import stage as ingest
from tasks.ingest.stage import IngestParams
from tasks.labels import stage as labels
from tasks.labels.stage import LabelsParams
from tasks.plain_context import PlainContext
from tasks.tables.annotations import ANNOTATIONS
from tasks.tables.labels import LABELS
from tasks.tables.parquet import read_metadata, read_table
from tasks.tables.quarantine import QUARANTINE
from tasks.tables.utterances import UTTERANCES
from tests.places import QUIET, here


class Ingested:
    """Tables of a corpus after the stages ingest and labels."""

    def __init__(self, corpus: str) -> None:
        self.utterances = read_table(UTTERANCES, here().utterances(corpus))
        self.annotations = read_table(ANNOTATIONS, here().annotations(corpus))
        self.quarantine = read_table(QUARANTINE, here().quarantine(corpus))
        self.labels = read_table(LABELS, here().labels(corpus))
        self.labels_quarantine = read_table(QUARANTINE, here().labels_quarantine(corpus))
        self.metadata = read_metadata(here().utterances(corpus))

    def reasons(self) -> dict[str, int]:
        """What ingest set aside, by reason."""
        counts = self.quarantine.group_by("reason").len()
        return dict(counts.iter_rows())


def ingest_and_label(
    adapter: str, options: dict[str, object] | None = None, **label_params: object
) -> Ingested:
    """Run both stages on ``data/raw/<adapter>`` of the current folder."""
    params = IngestParams(adapter=adapter, options=options or {}, max_quarantine_fraction=0.9)
    ingest.run(params, here(), PlainContext(stage="ingest"), adapter)
    merging = LabelsParams.model_validate({"max_quarantine_fraction": 1.0, **label_params})
    labels.run(merging, here(), QUIET, adapter)
    return Ingested(adapter)


def write_text(path: Path, text: str) -> Path:
    """A text file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_wav(path: Path, seed: int = 0) -> None:
    """A twentieth of a second of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, len(path.name)]).integers(-900, 900, 800, np.int16)
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, 16000, 0, "NONE", ""))
        stream.writeframes(noise.tobytes() + path.name.encode().ljust(64))


def write_bytes(path: Path) -> None:
    """A file that is only hashed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not decoded: " + path.name.encode())


def write_picture(path: Path, width_px: int = 8, height_px: int = 8, seed: int = 0) -> None:
    """A picture of noise; the suffix says which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([seed, *path.as_posix()[-40:].encode()])
    Image.fromarray(noise.integers(0, 256, (height_px, width_px, 3), np.uint8)).save(path)


# speech -------------------------------------------------------------------------------------------


def grow_ravdess(root: Path, actors: Iterable[int] = (1, 18)) -> None:
    """Speech and song; awkward: neutral but strong, emotion 9, a free name, a lost file, a copy."""
    speech = root / "Audio_Speech_Actors_01-24"
    for actor in actors:
        folder = f"Actor_{actor:02d}"
        for emotion in range(1, 9):
            for intensity in (1, 2) if emotion > 1 else (1,):
                name = f"01-{emotion:02d}-{intensity:02d}-01-01-{actor:02d}"
                write_wav(speech / folder / f"03-{name}.wav")
        write_bytes(root / "Video_Speech" / folder / f"01-01-03-01-01-01-{actor:02d}.mp4")
        write_bytes(root / "Video_Speech" / folder / f"02-01-03-01-01-01-{actor:02d}.mp4")
        if actor != 18:
            write_wav(root / "Audio_Song" / folder / f"03-02-03-01-01-01-{actor:02d}.wav")
    first = speech / "Actor_01"
    write_wav(first / "03-01-01-02-01-01-01.wav")
    write_wav(first / "03-01-09-01-01-01-01.wav")
    write_wav(first / "notes.wav")
    write_wav(first / "03-01-05-01-02-01-02.wav")
    write_wav(root / "copy" / "Actor_01" / "03-01-03-01-01-01-01.wav")


def grow_emodb(root: Path) -> None:
    """Two speakers; awkward: emotion X, speaker 99, a free name."""
    for speaker in ("03", "16"):
        for letter in "WLEAFTN":
            write_wav(root / "wav" / f"{speaker}a01{letter}a.wav")
    for name in ("03a01Xa", "99a01Fa", "03a03Fa", "hello"):
        write_wav(root / "wav" / f"{name}.wav")


CREMA_HEAD = '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"\n'


def write_votes(root: Path, rows: Iterable[Sequence[object]]) -> None:
    """``tabulatedVotes.csv`` from number, six counts and file name; the rest follows from them."""
    lines = []
    for number, *counts, name in rows:
        total = sum(int(str(count)) for count in counts)
        most = max(int(str(count)) for count in counts)
        winners = ":".join(e for e, c in zip("ADFHNS", counts, strict=True) if c == most)
        cells = ",".join(map(str, counts))
        share = most / total if total else 0
        lines.append(f'"{number}",{cells},"{name}",{total},{share:.15g},"{winners}"')
    write_text(
        root / "processedResults" / "tabulatedVotes.csv", CREMA_HEAD + "\n".join(lines) + "\n"
    )


def grow_crema_d(root: Path) -> None:
    """Three clips; awkward: a vote for a clip that is not there, a bad total, bad names."""
    clips = ("1001_DFA_ANG_XX", "1001_IEO_HAP_LO", "1091_TSI_SAD_X")
    for clip in clips:
        write_wav(root / "AudioWAV" / f"{clip}.wav")
        write_bytes(root / "VideoFlash" / f"{clip}.flv")
    for name in ("1001_XXX_ANG_XX", "1234_DFA_ANG_XX", "1001_DFA_JOY_XX"):
        write_wav(root / "AudioWAV" / f"{name}.wav")
    rows: list[Sequence[object]] = []
    for kind in (1, 2, 3):
        rows.append((kind * 100_000 + 1, 5 + kind, 1, 0, 0, 3, 0, clips[0]))
        rows.append((kind * 100_000 + 2, 0, 0, 0, kind * 2, 4, 0, clips[1]))
        rows.append((kind * 100_000 + 3, 0, 0, 0, 0, 4, 4, clips[2]))
        rows.append((kind * 100_000 + 4, 9, 0, 0, 0, 0, 0, "1002_DFA_ANG_XX"))
    write_votes(root, rows)
    path = root / "processedResults" / "tabulatedVotes.csv"
    path.write_text(path.read_text() + '"300009",1,1,0,0,0,0,"1001_DFA_ANG_XX",9,0.5,"A:D"\n')


# video --------------------------------------------------------------------------------------------


def grow_hume_vidmimic(root: Path) -> None:
    """Three splits; awkward: a missing file, a value out of range, one no number, no Filename."""
    head = "Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy\n"
    write_text(
        root / "train_split.csv",
        head
        + "00001,0.333,0.0,0.0,0.0,0.25,1.0\n"
        + "00002,0.0,0.5,1.5,0.0,0.0,0.0\n"
        + "00003,0.0,zero,0.0,0.0,0.0,0.0\n"
        + "00004,0.1,0.1,0.1,0.1,0.1,0.1\n"
        + ",0.1,0.1,0.1,0.1,0.1,0.1\n",
    )
    write_text(root / "valid_split.csv", head + "00005,0.0,0.0,0.0,1.0,0.0,0.0\n")
    write_text(root / "test_split.csv", "Filename\n00006\n")
    for name in ("00001", "00002", "00003", "00005", "00006", "1"):
        write_bytes(root / "raw" / f"{name}.mp4")


# stills -------------------------------------------------------------------------------------------


def grow_affectnet_release(root: Path) -> None:
    """First release; awkward: uncertain with -2, a box over the edge, one outside, a lost file."""
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
    head += "expression,valence,arousal\n"
    images = root / "Manually_Annotated_Images"
    for name in ("1/a.jpg", "1/b.jpg", "2/c.jpg", "2/d.jpg", "2/e.jpg", "2/h.jpg", "3/f.jpg"):
        write_picture(images / name, 40, 20)
    write_text(images / "2/g.jpg", "no picture at all")
    write_text(
        root / "Manually_Annotated_file_lists" / "training.csv",
        head
        + "1/a.jpg,10,5,20,10,1.0;2.0,1,0.75,0.25\n"
        + "1/b.jpg,30,10,12,10,1.0;2.0,2,-0.5,-0.25\n"
        + "2/c.jpg,0,0,40,20,1.0;2.0,9,-2,-2\n"
        + "2/d.jpg,60,5,20,10,1.0;2.0,4,-0.5,0.5\n"
        + "2/e.jpg,0,0,40,20,1.0;2.0,7,-0.5,0.5\n"
        + "2/g.jpg,0,0,40,20,1.0;2.0,0,0,0\n"
        + "2/h.jpg,0,0,40,20,1.0;2.0,3,-2,-2\n"
        + "2/gone.jpg,0,0,40,20,1.0;2.0,0,0,0\n",
    )
    write_text(
        root / "Manually_Annotated_file_lists" / "validation.csv",
        head + "3/f.jpg,0,0,40,20,1.0;2.0,0,0.0,0.0\n",
    )


def grow_affectnet_crops(root: Path) -> None:
    """Numbered crops; awkward: an unknown expression, a valence of 1.5, a lost file."""
    for number in (0, 1, 2, 3):
        write_picture(root / "train_set" / "images" / f"{number}.jpg")
    write_picture(root / "val_set" / "images" / "0.jpg", seed=1)
    write_text(
        root / "affectnet_annotations" / "train_set_annotation_without_lnd.csv",
        "number,exp,val,aro\n0,1,0.7,0.1\n1,7,-0.5,0.6\n2,12,0.1,0.1\n3,6,1.5,0.2\n9,0,0,0\n",
    )
    write_text(
        root / "affectnet_annotations" / "val_set_annotation_without_lnd.csv",
        "number,exp,val,aro\n0,0,-0.02,-0.02\n",
    )


def _cell(values: Sequence[object]) -> np.ndarray:
    cell = np.empty((1, len(values)), object)
    cell[0] = values
    return cell


def _structs(rows: Sequence[dict[str, object]]) -> np.ndarray:
    """A MATLAB structure array, one row."""
    made = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for number, row in enumerate(rows):
        for name, value in row.items():
            made[name][0, number] = value
    return made


def _vad(values: Sequence[float]) -> dict[str, object]:
    return dict(zip(("valence", "arousal", "dominance"), values, strict=True))


def _image(name: str, people: Sequence[dict[str, object]]) -> dict[str, object]:
    return {
        "filename": name,
        "folder": "mscoco/images",
        "image_size": _structs([{"n_col": 100, "n_row": 50}]),
        "original_database": _structs([{"name": "mscoco", "info": "x"}]),
        "person": _structs(people),
    }


def _train_person(box: Sequence[float], names: Sequence[str], vad: Sequence[float]) -> dict:
    return {
        "body_bbox": np.array([box], float),
        "annotations_categories": _structs([{"categories": _cell(names)}]),
        "annotations_continuous": _structs([_vad(vad)]),
        "gender": "Male",
        "age": "Adult",
    }


def _test_person(
    box: Sequence[float], seen: Sequence[tuple[Sequence[str], Sequence[float]]]
) -> dict:
    union = sorted({name for names, _ in seen for name in names})
    mean = np.mean([vad for _, vad in seen], axis=0)
    return {
        "body_bbox": np.array([box], float),
        "annotations_categories": _structs([{"categories": _cell(n)} for n, _ in seen]),
        "combined_categories": _cell(union),
        "annotations_continuous": _structs([_vad(vad) for _, vad in seen]),
        "combined_continuous": _structs([_vad(list(mean))]),
        "gender": "Female",
        "age": "Teenager",
    }


def grow_emotic(root: Path) -> None:
    """Annotations.mat; awkward: a box over the edge, one outside, NaN VAD, an unknown label."""
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_picture(root / "emotic" / "mscoco" / "images" / name, 100, 50)
    first = [
        _train_person([10, 5, 60, 45], ["Happiness", "Engagement"], [7, 6, 5]),
        _train_person([80, 0, 110, 50], ["Peace"], [6, 2, 6]),
        _train_person([200, 0, 260, 50], ["Peace"], [6, 2, 6]),
        _train_person([0, 0, 50, 50], ["Doubt/Confusion"], [np.nan, np.nan, np.nan]),
        _train_person([0, 0, 50, 50], ["Bliss"], [9, 2, 6]),
    ]
    two = [(["Sadness"], [2, 3, 4]), (["Sadness", "Pain"], [3, 3, 3])]
    (root / "Annotations").mkdir()
    savemat(
        root / "Annotations" / "Annotations.mat",
        {
            "train": _structs([_image("a.jpg", first)]),
            "val": _structs([_image("b.jpg", [_test_person([0, 0, 100, 50], two)])]),
            "test": _structs([_image("c.jpg", [_test_person([5, 5, 50, 50], two)] * 2)]),
        },
    )


def grow_emotic_tables(root: Path) -> None:
    """The tables; awkward: a box of three numbers."""
    head = "Index,Folder,Filename,Image Size,BBox,Categorical_Labels,Continuous_Labels,Gender,Age\n"
    place, rest = "mscoco/images", '"[100, 50]"'
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_picture(root / place / name, 100, 50)
    write_text(
        root / "emotic_pre" / "train.csv",
        head
        + f"0,{place},a.jpg,{rest},\"[10, 5, 60, 45]\",\"['Happiness', 'Doubt/Confusion']\","
        + '"[7.0, 6.0, 5.0]",Male,Adult\n'
        + f'1,{place},a.jpg,{rest},"[0, 0, 50]","[\'Peace\']","[7.0, 6.0, 5.0]",Male,Adult\n',
    )
    for name, picture in (("val", "b.jpg"), ("test", "c.jpg")):
        write_text(
            root / "emotic_pre" / f"{name}.csv",
            head
            + f"0,{place},{picture},{rest},\"[0, 0, 100, 50]\",\"['Sadness', 'Pain']\","
            + '"[2.5, 3.0, 3.5]",Male,Adult\n',
        )


def pixels(seed: int) -> str:
    """A face's worth of grey values."""
    return " ".join(map(str, np.random.default_rng(seed).integers(0, 256, 2304)))


def grow_fer2013_folders(root: Path) -> None:
    """Class folders; awkward: a training picture among the tests, one in no class folder."""
    for name in (
        "train/angry/Training_1.jpg",
        "train/happy/Training_2.jpg",
        "validation/sad/PublicTest_3.jpg",
        "test/neutral/PrivateTest_4.jpg",
        "test/neutral/PublicTest_5.jpg",
        "test/happy/Training_6.jpg",
        "loose.jpg",
    ):
        write_picture(root / name, 48, 48)


def grow_fer2013_csv(root: Path) -> Path:
    """``fer2013.csv``; awkward: 2,303 pixels, a pixel of 256, class 8, an unknown Usage."""
    rows = [
        f"0,{pixels(1)},Training",
        f"3,{pixels(2)},PublicTest",
        f"6,{pixels(3)},PrivateTest",
        f"1,{pixels(4).rsplit(' ', 1)[0]},Training",
        f"1,{pixels(5).rsplit(' ', 1)[0]} 256,Training",
        f"8,{pixels(6)},Training",
        f"2,{pixels(7)},Holiday",
    ]
    return write_text(root / "fer2013.csv", "emotion,pixels,Usage\n" + "\n".join(rows) + "\n")


def grow_fer2013_vad(root: Path) -> None:
    """Three tables of Huo & Ge; awkward: a valence of 3, one of 1.5, an empty dominance."""
    head = "index,emotionLabel,Valence,Arousal,Dominance,emotion,pixels\n"
    train = [
        f"0,0=Angry,-2,1,1,0,{pixels(1)}",
        f"1,3=Happy,3,1,1,3,{pixels(2)}",
        f"2,3=Happy,1.5,1,1,3,{pixels(3)}",
        f"3,4=Sad,-1,-1,,4,{pixels(4)}",
    ]
    write_text(root / "outputTrain_forVA.csv", head + "\n".join(train) + "\n")
    for part, seed in (("PublicTest", 5), ("PrivateTest", 6)):
        row = f"0,6=Neutral,0,0,0,6,{pixels(seed)}\n"
        write_text(root / f"output{part}_forVAD.csv", head + row)


def grown(corpus: str, grow: Callable[[Path], object]) -> Path:
    """The corpus's folder below the current one, filled."""
    root = here().raw(corpus)
    root.mkdir(parents=True)
    grow(root)
    return root


def by_id(frame: pl.DataFrame, part: str) -> dict[str, object]:
    """The one row whose id holds ``part``."""
    found = frame.filter(pl.col("utterance_id").str.contains(part, literal=True))
    return found.row(0, named=True) if found.height == 1 else {"rows": found.height}
