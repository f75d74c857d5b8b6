"""A vector for whoever speaks: by place in the dialogue, or also by who it is in the corpus."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.batch import Batch
from models.errors import UserError
from models.method import Spec

#: By whom vectors are told apart; as published it is the place in the ``dialogue``.
Speakers = Literal["dialogue", "corpus"]


def check_speakers(method: str, speakers: str) -> None:
    """Refuse another word for option ``speakers`` of ``method``."""
    if speakers not in ("dialogue", "corpus"):
        raise UserError(f"{method}: speakers is '{speakers}'; use one of dialogue, corpus")


class SpeakerVectors(nn.Module):
    """One vector for each index of a speaker within the dialogue.

    With ``corpus`` each person of the training rows has a vector besides, which starts at 0 and is
    added to that of the index. Whoever is unknown has the vector of the index alone; it is trained
    by everybody, so it says something of strangers too.

    Args:
        spec: how many indices and people there are; an index beyond takes the last vector.
        width: of the vectors.
        speakers: ``dialogue`` or ``corpus``.
    """

    def __init__(self, spec: Spec, width: int, speakers: str = "dialogue") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max(spec.speakers, 1), width))
        nn.init.normal_(self.weight)
        self.people: nn.Parameter | None = None
        if speakers == "corpus":
            self.people = nn.Parameter(torch.zeros(max(spec.people, 1), width))

    def forward(self, batch: Batch) -> Tensor:
        """(B, U, width)."""
        found = F.embedding(batch.speakers.clamp(max=len(self.weight) - 1), self.weight)
        if self.people is None:
            return found
        who = torch.full_like(batch.speakers, -1) if batch.people is None else batch.people
        is_known = (who >= 0) & (who < len(self.people))
        own = F.embedding(who.masked_fill(~is_known, 0), self.people)
        return found + own * is_known.unsqueeze(-1)
