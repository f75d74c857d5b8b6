"""Encoders: the stage against its bare forward passes, and against a per-clip float32 loop.

    python -m benchmarks.encoders [--modality audio|text|video] [--clips 60] [--size base|small]
                                  [--threads 2] [--repeats 1]

Networks have the real architecture and random weights (time does not depend on their values). The
clips last 1 to 12 s, texts have 1 to 11 words spelt in letters, utterances 8 faces.

*Stage* is everything: decoding,
preprocessing, the network in the precision that ``dtype: auto`` picks here, the store, the table.
*Bare* is the same network on the same batches from memory. *Loop* is the field's script: one file
after the other, float32, the checkpoint's own preprocessor, all hidden states, one ``.npy`` each.
Prints JSON with wall and processor seconds (of children too: decoding is another process).
"""

import argparse
import io
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
import transformers as hf
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.encoders.hidden import best_dtype
from tasks.checkpoints import stage as checkpoints
from tasks.features import families as encoder_families
from tasks.features import stage as features
from tasks.features.inputs import Loader, plan, read_utterances
from tasks.features.stage import EncoderParams
from tasks.layout import Layout
from tasks.plain_context import PlainContext
from tasks.tables.faces import FACES
from tasks.tables.parquet import write_table
from tasks.tables.utterances import UTTERANCES

SIZES = {"small": (384, 6, 6), "base": (768, 12, 12)}
FAMILY = {"audio": "hf_audio", "text": "hf_text", "video": "hf_vision"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modality", choices=list(FAMILY), default="audio")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--size", choices=list(SIZES), default="base")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_checkpoint(arguments.modality, arguments.size, root / "data/checkpoints/net")
        make_corpus(arguments.modality, arguments.clips, root)
        print(json.dumps(compare(arguments, root), indent=2))


def make_checkpoint(modality: str, size: str, folder: Path) -> None:
    width, layers, heads = SIZES[size]
    kind = {"audio": "wav2vec2", "text": "bert", "video": "vit"}[modality]
    # the tiny one brings preprocessor and tokenizer; the network is replaced by a real-sized one
    tiny = checkpoints.TinyCheckpoint(kind=kind, width=64)
    checkpoints.make_checkpoint(tiny, 0, folder)
    sizes = dict(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    if modality == "audio":
        model = hf.Wav2Vec2Model(hf.Wav2Vec2Config(**sizes))
    elif modality == "text":
        vocabulary = hf.AutoTokenizer.from_pretrained(folder).vocab_size
        model = hf.BertModel(hf.BertConfig(**sizes, vocab_size=vocabulary, pad_token_id=0))
    else:
        model = hf.ViTModel(hf.ViTConfig(**sizes))
        told = folder / "preprocessor_config.json"
        side = model.config.image_size
        size = {"size": {"height": side, "width": side}}
        told.write_text(json.dumps(json.loads(told.read_text()) | size))
    model.save_pretrained(folder)


def make_corpus(modality: str, clips: int, root: Path) -> None:
    rng = np.random.default_rng(0)
    rows, crops = [], []
    words = ["well", "i", "think", "that", "you", "never", "really", "said", "so", "but", "who"]
    for number in range(clips):
        name = f"c/d{number // 10}/u{number:05d}"
        row = {"utterance_id": name, "dialogue_id": f"c/d{number // 10}", "turn": number % 10}
        if modality == "audio":
            path = root / Layout().raw("c") / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            samples = int(16000 * rng.uniform(1, 12))
            soundfile.write(path, 0.1 * rng.standard_normal(samples), 16000)
            row |= {"media": f"c/{number}.wav", "media_sha256": f"{number:064x}"}
        row["text"] = " ".join(rng.choice(words, rng.integers(1, 12)))
        rows.append(row)
        for frame in range(8 if modality == "video" else 0):
            stream = io.BytesIO()
            pixels = rng.integers(0, 256, (96, 96, 3), np.uint8)
            Image.fromarray(pixels).save(stream, "JPEG", quality=90)
            crops.append(
                {
                    "utterance_id": name,
                    "frame": frame,
                    "time_s": 0.2 * frame,
                    "track": 0,
                    "chosen": True,
                    "is_detected": True,
                    "crop": stream.getvalue(),
                    "status": "ok",
                }
            )
    write_table(UTTERANCES, UTTERANCES.frame(rows), root / Layout().utterances("c"))
    if crops:
        write_table(FACES, FACES.frame(crops), Layout(root / "data").faces("c"))


def compare(arguments: argparse.Namespace, root: Path) -> dict[str, object]:
    modality = arguments.modality
    params = EncoderParams(
        family=FAMILY[modality], checkpoint="data/checkpoints/net", sequence=True, dtype="auto"
    )
    utterances = read_utterances(Layout(root / "data"), "c")
    items = plan(modality, utterances, Layout(root / "data").faces("c"), 0)
    rate_hz = encoder_families.family_constants(params.family).rate_hz
    loader = Loader(
        modality, rate_hz, root / Layout().media_root, Layout(root / "data").faces("c"), 16
    )
    groups = [[one.content for one in group] for group in loader.groups(items, 256)]
    contents = [content for group in groups for content in group]
    if modality == "text":
        contents.sort(key=lambda text: len(text.text))
    weights = features.find_weights(params.checkpoint, None, root / "hashes", root)
    encoder = encoder_families.load_encoder(params.family, features.make_settings(params, weights))
    bare = forwards(encoder, contents)
    plain = loop(modality, root, items, contents)
    for warm in (bare, plain):
        warm(2)
    times: dict[str, list[tuple[float, float]]] = {"stage": [], "bare": [], "loop": []}
    for repeat in range(arguments.repeats):
        cache = root / f"cache{repeat}"
        ctx = PlainContext(stream=io.StringIO())
        times["bare"].append(clock(lambda: bare(None)))
        times["stage"].append(
            clock(
                lambda cache=cache, ctx=ctx: features.run(
                    params, Layout(root / "data", cache=cache, project=root), ctx, "c", "net"
                )
            )
        )
        times["loop"].append(clock(lambda: plain(None)))
    best = {name: tuple(map(min, zip(*found, strict=True))) for name, found in times.items()}
    return {
        "modality": modality,
        "clips": arguments.clips,
        "size": arguments.size,
        "threads": arguments.threads,
        "dtype": best_dtype(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "seconds": {name: round(wall, 2) for name, (wall, _) in best.items()},
        "cpu_seconds": {name: round(cpu, 2) for name, (_, cpu) in best.items()},
        "stage_to_bare": round(best["stage"][0] / best["bare"][0], 3),
        "stage_to_bare_cpu": round(best["stage"][1] / best["bare"][1], 3),
        "loop_to_stage": round(best["loop"][0] / best["stage"][0], 3),
        "loop_to_stage_cpu": round(best["loop"][1] / best["stage"][1], 3),
        "relative_error": error(root, encoder, params, contents),
    }


def forwards(encoder, contents) -> Callable[[int | None], None]:
    """Only the network, on the batches that the stage makes, from memory."""
    calls: list[tuple] = []
    run = encoder.model.forward

    def record(*args: object, **kwargs: object) -> object:
        calls.append((args, kwargs))
        return run(*args, **kwargs)

    encoder.model.forward = record
    encoder.encode(contents)
    encoder.model.forward = run
    from models.encoders.hidden import precision

    def bare(most: int | None) -> None:
        for args, kwargs in calls[:most]:
            with precision(encoder.device, encoder.settings.dtype):
                encoder.model(*args, **kwargs)

    return bare


def loop(modality: str, root: Path, items, contents) -> Callable[[int | None], None]:
    """One after the other in float32, as published scripts do it."""
    folder = root / "data/checkpoints/net"
    model = hf.AutoModel.from_pretrained(folder).eval()
    out = root / "npy"
    out.mkdir()
    if modality == "audio":
        extractor = hf.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    elif modality == "text":
        extractor = hf.AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def plain(most: int | None) -> None:
        for number, (item, content) in enumerate(list(zip(items, contents, strict=True))[:most]):
            if modality == "audio":
                file = root / Layout().media_root / item.span.path
                samples, _ = soundfile.read(file, dtype="float32")
                inputs = extractor(samples, sampling_rate=16000, return_tensors="pt")
                states = model(**inputs, output_hidden_states=True).hidden_states
                np.save(out / f"{number}.npy", states[-1][0].numpy())
            elif modality == "text":
                inputs = extractor(content.text, return_tensors="pt")
                states = model(**inputs, output_hidden_states=True).hidden_states
                np.save(out / f"{number}.npy", states[-1][0].numpy())
            else:
                rows = []
                for image in content.images:  # one picture at a time
                    resized = np.asarray(Image.fromarray(image).resize((224, 224)))
                    pixels = torch.from_numpy(resized).permute(2, 0, 1)[None] / 127.5 - 1
                    rows.append(model(pixel_values=pixels).last_hidden_state[:, 0])
                np.save(out / f"{number}.npy", torch.cat(rows).numpy())

    return plain


def error(root: Path, encoder, params: EncoderParams, contents) -> dict[str, float]:
    """What the reduced precision costs: relative error of pooled vectors against float32."""
    weights = features.find_weights(params.checkpoint, None, root / "hashes", root)
    exact = encoder_families.load_encoder(
        params.family,
        features.make_settings(params.model_copy(update={"dtype": "float32"}), weights),
    )
    some = contents[:8]
    left = np.stack([one.pooled for one in exact.encode(some)])
    right = np.stack([one.pooled for one in encoder.encode(some)])
    found = np.linalg.norm(left - right, axis=1) / np.linalg.norm(left, axis=1)
    return {"median": round(float(np.median(found)), 5), "max": round(float(found.max()), 5)}


def clock(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds, those of ended and living children included."""
    wall, cpu = time.perf_counter(), _cpu_s()
    work()
    return time.perf_counter() - wall, _cpu_s() - cpu


def _cpu_s() -> float:
    import psutil

    total = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    for child in psutil.Process().children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return total


if __name__ == "__main__":
    main()
