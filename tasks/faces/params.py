"""Knobs of the stage ``faces``; every one of them changes its table."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(gt=0, lt=1)]


class FacesParams(BaseModel):
    """Knobs of the stage ``faces`` (``params.yaml: faces``).

    Attributes:
        detect: ``faces`` are looked for in every picture; ``whole``: the picture, or its region, is
            the crop, no larger than ``crop_px``, for media that are cropped already.
        rate_hz: sampled frames for each second of an utterance.
        max_frames: longer utterances are sampled at the rate that gives so many frames.
        frame_height_px: taller frames are reduced to this height when decoded; crops come from
            these frames. Boxes are given in pixels of the original.
        detect_height_px: shorter side of the frame in which faces are looked for.
        detect_every: look at every N-th sampled frame at least; those between are interpolated
            where both neighbours show the same faces at nearly the same places.
        min_face: smallest face looked for, as a share of the frame's shorter side; never below 20
            pixels of the frame in which faces are looked for.
        thresholds: probabilities that a candidate needs at MTCNN's three networks.
        min_confidence: a track needs one look as sure as this; what never is surely a face is left
            out.
        steady_iou: overlap of a face in two neighbouring looks from which the frames between are
            interpolated without a look.
        cut_likeness: correlation of neighbouring sampled frames below which there is a cut between
            them, which no track crosses.
        track_iou: least overlap that links a face to a track.
        max_gap_s: a track not found for longer has ended.
        crop_px: side of a crop; of whole pictures the longer side at most.
        margin: share of the crop's side left free around the face, on each side.
        crop_format: how crops are encoded.
        jpeg_quality: 1 to 100.
        crops_per_utterance: most crops kept, from equal parts of the chosen track.
        min_difference: a crop less different than this from the last one kept is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    detect: Literal["faces", "whole"] = "faces"
    rate_hz: float = Field(default=5.0, gt=0, le=120)
    max_frames: int = Field(default=600, ge=1)
    frame_height_px: int = Field(default=540, ge=32)
    detect_height_px: int = Field(default=360, ge=32)
    detect_every: int = Field(default=4, ge=1)
    min_face: float = Field(default=0.08, gt=0, le=1)
    thresholds: tuple[Probability, Probability, Probability] = (0.6, 0.7, 0.7)
    min_confidence: Probability = 0.9
    steady_iou: Probability = 0.6
    cut_likeness: Probability = 0.4
    track_iou: Probability = 0.25
    max_gap_s: float = Field(default=1.0, gt=0)
    crop_px: int = Field(default=160, ge=32, le=1024)
    margin: float = Field(default=0.05, ge=0, lt=0.5)
    crop_format: Literal["jpeg", "png"] = "jpeg"
    jpeg_quality: int = Field(default=92, ge=1, le=100)
    crops_per_utterance: int = Field(default=16, ge=1)
    min_difference: float = Field(default=0.15, ge=0)
