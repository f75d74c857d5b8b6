"""Small generated dialogues and the checks that every conversation method must pass."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from models.batch import MODALITIES, Batch, Target
from models.method import Method, Spec, configure, find_method, total

CATEGORY = Target("category", "category", ("happy", "sad", "neutral"))
VAD = Target("vad", "values", ("valence", "arousal", "dominance"))
CATEGORIES = Target("categories", "labels", ("happy", "sad", "angry", "calm"))
TARGETS = (CATEGORY, VAD, CATEGORIES)
DIMS = {"audio": 5, "video": 9, "text": 16}
SUBSETS = (
    ("audio",),
    ("video",),
    ("text",),
    ("audio", "video"),
    ("audio", "text"),
    ("video", "text"),
    MODALITIES,
)


def dialogues(
    lengths: Sequence[int],
    modalities: Sequence[str] = MODALITIES,
    speakers: int = 2,
    seed: int = 0,
    present_share: float = 1.0,
    dims: dict[str, int] = DIMS,
) -> Batch:
    """A padded batch with random features, speakers and labels for all of ``TARGETS``."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(lengths)
    shape = (len(lengths), int(sizes.max()))
    mask = torch.arange(shape[1]) < sizes[:, None]
    present = {m: mask & (torch.rand(shape, generator=draw) < present_share) for m in modalities}
    features = {
        m: torch.randn(*shape, dims[m], generator=draw) * present[m].unsqueeze(-1)
        for m in modalities
    }
    ids = torch.randint(speakers, shape, generator=draw)
    ids[:, 0] = 0
    pad = ~mask.unsqueeze(-1)
    labels = torch.randint(CATEGORY.width, shape, generator=draw)
    values = torch.rand(*shape, VAD.width, generator=draw) * 2 - 1
    sets = torch.randint(2, (*shape, CATEGORIES.width), generator=draw).float()
    index = torch.cumsum(mask.flatten().long(), 0).view(shape) - 1
    return Batch(
        mask=mask,
        speakers=ids.masked_fill(~mask, 0),
        features=features,
        present=present,
        targets={
            "category": labels.masked_fill(~mask, -1),
            "vad": values.masked_fill(pad, float("nan")),
            "categories": sets.masked_fill(pad, float("nan")),
        },
        index=index.masked_fill(~mask, -1),
    )


def select(batch: Batch, rows: Sequence[int], utterances: int | None = None) -> Batch:
    """Only these dialogues, cut to ``utterances``."""

    def cut(value):
        return value[list(rows), :utterances]

    return replace(
        batch,
        mask=cut(batch.mask),
        speakers=cut(batch.speakers),
        features={m: cut(v) for m, v in batch.features.items()},
        present={m: cut(v) for m, v in batch.present.items()},
        targets={t: cut(v) for t, v in batch.targets.items()},
        index=cut(batch.index),
    )


class Dialogues:
    """``models.method.Data`` over one batch."""

    targets = TARGETS

    def __init__(self, batch: Batch) -> None:
        self.all = batch

    def __len__(self) -> int:
        return len(self.all.mask)

    def batch(self, indices: Sequence[int]) -> Batch:
        rows = list(indices)
        return select(self.all, rows, int(self.all.lengths[rows].max()))

    def batches(self, groups: Sequence[Sequence[int]], key: int | None = None) -> Iterator[Batch]:
        return (self.batch(group) for group in groups)


def build(
    name: str,
    modalities: Sequence[str] = MODALITIES,
    target: Target = CATEGORY,
    speakers: int = 2,
    seed: int = 0,
    dims: dict[str, int] = DIMS,
    **options,
) -> Method:
    """A method with fresh weights from ``seed``."""
    kind = find_method(name)
    torch.manual_seed(seed)
    spec = Spec({m: dims[m] for m in MODALITIES if m in modalities}, (target,), speakers)
    return kind(spec, configure(kind.config_type, options, name))


def output(method: Method, batch: Batch) -> torch.Tensor:
    """(B, U, C) in evaluation mode, labels out of reach."""
    method.eval()
    with torch.no_grad():
        return method.predict(batch.without_labels())[method.spec.targets[0].name]


def check_padding_and_mates_change_nothing(method: Method, present_share: float = 1.0) -> None:
    """Alone or in a batch with longer mates, a dialogue gets the same output."""
    lengths = [4, 9, 1]
    batch = dialogues(lengths, method.spec.modalities, seed=3, present_share=present_share)
    joint = output(method, batch)
    for row, length in enumerate(lengths):
        alone = output(method, select(batch, [row], length))
        assert torch.allclose(alone[0], joint[row, :length], atol=1e-5)
    rubbish = {m: v.masked_fill(~batch.mask.unsqueeze(-1), 7.0) for m, v in batch.features.items()}
    padded_with_rubbish = output(method, replace(batch, features=rubbish))
    assert torch.allclose(padded_with_rubbish[batch.mask], joint[batch.mask], atol=1e-5)


def check_absent_values_change_nothing(method: Method) -> None:
    """What stands in the cells of absent modalities is never looked at."""
    batch = dialogues([6, 3, 1], method.spec.modalities, seed=4, present_share=0.5)
    # one modality is missing from a whole dialogue
    first = method.spec.modalities[0]
    batch = batch.with_present(
        batch.present | {first: batch.present[first] & torch.tensor([[False], [True], [True]])}
    )
    rubbish = {
        m: v.masked_fill((batch.mask & ~batch.present[m]).unsqueeze(-1), 5.0)
        for m, v in batch.features.items()
    }
    before = output(method, batch)
    assert torch.equal(before, output(method, replace(batch, features=rubbish)))
    assert before[batch.mask].isfinite().all()


def check_every_parameter_gets_gradient(method: Method, batch: Batch | None = None) -> None:
    """No parameter is left out of the losses, and gradients are finite."""
    batch = batch or dialogues([5, 7, 3], method.spec.modalities, seed=5)
    method.train()
    total(method.losses(batch)).backward()
    idle = [
        name
        for name, weight in method.named_parameters()
        if weight.grad is None or not weight.grad.isfinite().all()
    ]
    assert idle == []


def check_same_seed_same_losses(name: str, **options) -> None:
    """Two trainings from one seed agree bit for bit."""
    batch = dialogues([5, 3], seed=6)
    histories = []
    for _ in range(2):
        method = build(name, seed=7, **options).train()
        optimizer = torch.optim.Adam(method.parameters(), 1e-3)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = total(method.losses(batch))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        histories.append(losses)
    assert histories[0] == histories[1]
    assert len(set(histories[0])) == 3
