"""Rating scales with their exact maps to [-1, 1], and the signs that categories ask of VAD."""

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import polars as pl

Values = TypeVar("Values", np.ndarray, pl.Expr, float)


@dataclass(frozen=True)
class Scale:
    """A declared rating scale.

    Attributes:
        low: lowest possible value.
        high: highest possible value.
        sign: -1 where the low end means "positive", "active" or "in control".
        is_integer: single raters give whole numbers (released averages need not be whole).
        sentinels: values that mean "not annotated".
    """

    low: float
    high: float
    sign: int = 1
    is_integer: bool = False
    sentinels: tuple[float, ...] = ()


#: Scales of known sources. ``params.yaml`` may name one or declare its own.
SCALES = {
    "affectnet": Scale(-1, 1, sentinels=(-2.0,)),  # -2: no face, or annotators uncertain
    "affwild2": Scale(-1, 1, sentinels=(-5.0,)),  # -5: frame not annotated
    "emotic": Scale(1, 10, is_integer=True),
    "iemocap": Scale(1, 5, is_integer=True),
    "msp_podcast": Scale(1, 7),
    "msp_improv": Scale(1, 5),
    "emobank": Scale(1, 5),
    "fer_vad": Scale(-2, 2, is_integer=True),
    "nrc_vad": Scale(0, 1),
    "speech_model": Scale(0, 1),  # outputs of regression models; they may leave the range
    "mosi_sentiment": Scale(-3, 3),
    "mosei_sentiment": Scale(-3, 3),
    "hume_emi": Scale(0, 1),
    "unit": Scale(-1, 1),
}


def to_unit(values: Values, low: Values, high: Values, sign: Values) -> Values:
    """Map [low, high] onto [-1, 1] (turned round where ``sign`` is -1); [-1, 1] stays as it is."""
    unit: Any = sign * (2 * values - (high + low)) / (high - low)
    return unit


def from_unit(values: Values, low: Values, high: Values, sign: Values) -> Values:
    """Inverse of ``to_unit``."""
    raw: Any = (sign * values * (high - low) + (high + low)) / 2
    return raw


SignTable = Literal["table1", "equations", "code"]

#: What a category asks of valence, arousal, dominance: ``+`` above zero, ``-`` below, ``0`` zero,
#: ``>=``, ``<=``, ``*`` anything. Huo & Ge give three versions that differ: their Table 1, their
#: equations, and the spreadsheet their program reads.
SIGNS: dict[SignTable, dict[str, tuple[str, str, str]]] = {
    "table1": {
        "happy": ("+", "+", "+"),
        "disgust": ("-", "+", "+"),
        "angry": ("-", "+", "*"),
        "fear": ("-", "-", "-"),
        "sad": ("-", "-", "*"),
        "surprise": ("*", "+", "-"),
        "neutral": ("0", "0", "0"),
    },
    "equations": {
        "happy": ("+", "+", "+"),
        "disgust": ("-", "+", "+"),
        "angry": ("-", "+", "+"),
        "fear": ("-", "*", "*"),
        "sad": ("-", "<=", "<="),
        "surprise": ("*", "+", "*"),
        "neutral": ("0", "0", "0"),
    },
    "code": {
        "happy": ("+", "+", ">="),
        "disgust": ("-", ">=", "+"),
        "angry": ("-", ">=", "*"),
        "fear": ("-", "*", "-"),
        "sad": ("-", "-", "-"),
        "surprise": ("*", "+", "-"),
        "neutral": ("0", "0", "*"),
    },
}

#: Other names of the constrained categories.
SIGN_ALIASES = {
    "happiness": "happy",
    "joy": "happy",
    "excited": "happy",
    "anger": "angry",
    "sadness": "sad",
    "fearful": "fear",
    "surprised": "surprise",
}


def breaks_sign(value: pl.Expr, demand: pl.Expr, zero_tol: float) -> pl.Expr:
    """True where ``value`` breaks ``demand``; values within ``zero_tol`` of zero count as zero."""
    above, below = value > zero_tol, value < -zero_tol
    return (
        pl.when(demand == "+")
        .then(~above)
        .when(demand == "-")
        .then(~below)
        .when(demand == "0")
        .then(above | below)
        .when(demand == ">=")
        .then(below)
        .when(demand == "<=")
        .then(above)
        .otherwise(pl.lit(False))
    )
