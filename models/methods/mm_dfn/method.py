"""MM-DFN: dynamic fusion across the layers of a multimodal graph.

Paper: Hu et al., "MM-DFN: multimodal dynamic fusion network for emotion recognition in
conversations", ICASSP 2022. Variant ``spcl``: the backbone of SPCL, which drops the gate between
layers and fuses pairs of modalities instead.
Reference code: zerohd4869/MM-DFN and the SPCL backbones (mattam301/experimental_MM_bachbones,
commit ccce08f), read; nothing copied.
Licence of the references: MIT; none stated.
What we changed and why:
    - each speaker's utterances are packed; the code runs the backward direction over zeros first;
    - the classifier of the concatenation is kept as one block per modality, the same function, so
      that plug-ins see each modality's vote;
    - the focal loss passes gradient through its factor unless ``focal_detached`` says otherwise, as
      the code does;
    - of the grids in its scripts the presets have the smallest depth, gamma and decay, dropout .4
      and the rates 3e-4 (IEMOCAP) and 5e-4 (MELD);
    - all epochs are run and validation chooses; the code stops after 5 without a better F1 or loss
      and selects on test;
    - in ``spcl`` an absent partner leaves a modality as it is (gate 1), so nothing is fused with
      zeros.

Speakers: a context for each index within the dialogue; there are no vectors of speakers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor, nn

from models.backbone import PUBLISHED, SPCL, Backbone, BackboneConfig, Variant
from models.batch import MODALITIES, Batch
from models.errors import UserError
from models.method import Spec
from models.methods.mm_dfn.fusion import DynamicFusion, Shape
from models.methods.mm_dfn.pairs import GatedPairs


@dataclass(frozen=True)
class Config(BackboneConfig):
    """Options of MM-DFN; None takes the variant's published value.

    Attributes:
        unified: width that every modality is brought to.
        hidden: width of the graph layers.
        layers: graph layers K.
        alpha: share of the initial features in every layer.
        decay: lambda of the identity mapping.
        dropout: in encoders, graph and before the classifier.
        speaker_weights: how much of the speaker-wise context is added to audio, video and text
            (``original`` only); (3, 0, 1) is IEMOCAP's, (0.5, 0.5, 1.5) MELD's.
    """

    unified: int | None = None
    hidden: int | None = None
    layers: int | None = None
    alpha: float | None = None
    decay: float = 0.5
    dropout: float = 0.4
    speaker_weights: tuple[float, ...] = (3.0, 0.0, 1.0)


class MmDfn(Backbone):
    """MM-DFN with graph-based dynamic fusion, or SPCL's gated pairs."""

    config_type = Config
    variants: ClassVar[Mapping[str, Variant]] = {
        "original": Variant(
            True,
            {"unified": 200, "hidden": 100, "layers": 16, "alpha": 0.2},
            {**PUBLISHED, "lr": 3e-4, "weight_decay": 1e-4, "batch_size": 32, "epochs": 30},
            {
                "iemocap": {"class_weights": True, "focal_gamma": 0.5, "focal_detached": True},
                "meld": {
                    "focal_gamma": 0.5,
                    "focal_detached": True,
                    "speaker_weights": (0.5, 0.5, 1.5),
                    "lr": 5e-4,
                },
            },
        ),
        "spcl": Variant(
            True,
            {"unified": 300, "hidden": 300, "layers": 2, "alpha": 0.1},
            {**SPCL, "lr": 1e-4, "epochs": 60},
            unused=frozenset({"speaker_weights"}),
        ),
    }
    plugin_variant = "spcl"
    recipe: ClassVar[Mapping[str, object]] = variants["original"].recipe

    def __init__(self, spec: Spec, config: Config) -> None:
        super().__init__(spec, config)
        is_original = config.variant == "original"
        self.network = self._fusion() if is_original else self._pairs()
        self.heads = nn.ModuleDict(
            {n: nn.Linear(self.network.width, self.target.width) for n in spec.modalities}
        )

    def _shape(self) -> Shape:
        return Shape(**{option.name: self.setting(option.name) for option in fields(Shape)})

    def _fusion(self) -> DynamicFusion:
        if len(self.config.speaker_weights) != len(MODALITIES):
            raise UserError(
                "mm_dfn: speaker_weights needs three numbers, for audio, video and text; "
                f"got {self.config.speaker_weights}"
            )
        given = zip(MODALITIES, self.config.speaker_weights, strict=True)
        weights = {name: float(weight) for name, weight in given if name in self.spec.dims}
        return DynamicFusion(self.stream_dims(), self._shape(), weights)

    def _pairs(self) -> GatedPairs:
        if len(self.spec.modalities) < 2:
            raise UserError(
                "mm_dfn's variant 'spcl' fuses pairs of modalities and got one; "
                "use variant 'original' or more modalities"
            )
        return GatedPairs(self.stream_dims(), self._shape())

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """(B, U, unified + hidden) per modality."""
        return self.network.encode(self.streams(batch), batch)

    def decode(self, features: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Votes of each modality; in ``spcl`` after every pair of modalities has met."""
        return super().decode(self.network.meet(features, batch), batch)

    def encoder(self, stream: str) -> Iterable[nn.Module]:
        """What turns a modality into nodes and nobody else uses."""
        return self.network.encoder(stream)


METHOD = MmDfn
