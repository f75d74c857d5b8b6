"""How judgements are merged: the keys of ``params.yaml: labels``."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.labels.merge import MergeRule
from tasks.labels.scales import SignTable

#: A number on the project's scale.
Unit = Annotated[float, Field(ge=-1, le=1)]
Kind = Literal["rated", "self_report", "lexicon", "model"]


class _Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScaleParams(_Params):
    """A scale of the user's own; see ``label_scales.Scale``."""

    min: float
    max: float
    sign: Literal[1, -1] = 1
    integer: bool = False
    sentinels: tuple[float, ...] = ()


class PriorParams(_Params):
    """VAD by category, for utterances nobody rated on VAD. Off unless declared.

    Attributes:
        name: where the numbers come from; appears in the report.
        vad: category to valence, arousal, dominance in [-1, 1].
    """

    name: str = Field(min_length=1)
    vad: dict[str, tuple[Unit, Unit, Unit]]


class LexiconParams(_Params):
    """VAD of words, for utterances with a text and no judgement. Off unless declared.

    Attributes:
        file: in NRC-VAD's form, from the project's folder: word, valence, arousal, dominance in
            [0, 1], separated by tabs.
        least_words: known words that a text must have.
    """

    file: str = Field(min_length=1)
    least_words: int = Field(1, ge=1)


class TeacherParams(_Params):
    """VAD as another model says it, where nobody judged. Off unless declared.

    Attributes:
        encoder: whose features are valence, arousal and dominance in [-1, 1]: of the family
            ``audio_vad``, or imported.
    """

    encoder: str


class LabelsParams(_Params):
    """How judgements are merged (``params.yaml: labels``).

    Attributes:
        merge: rule for numbers.
        leave_one_out: for ``ewe``: weigh a rater by the correlation with the others alone.
        weights_from: what ``ewe`` weights are learnt from: ``training``: the training rows of each
            fold, so that the labels have a row for each fold; ``all``: every row, which is refused
            where methods are tested on the corpus, for test ratings would move training labels.
        min_raters: fewer judgements of an utterance are set aside (``too_few_raters``).
        required: targets that every judgement of their family must have.
        category: ``majority`` obeys ``ties``; ``soft`` keeps the shares as the label and always
            names the first of the most voted categories.
        min_share: share of the votes that the winner needs.
        ties: no category, the first in the order of ``categories``, or quarantine.
        several_votes: a rater with several categories contradicts himself, splits his vote, or
            gives each a vote.
        multilabel_threshold: share of the raters that a label of the set needs.
        categories: allowed categories in order; empty: those of the corpus's label map, else any.
        multilabels: allowed labels of the target ``categories``; empty: any.
        aliases: raw label to category; to null sets it aside on purpose.
        scales: target to a scale of ``label_scales.SCALES`` or one of the user's own.
        released_raters: names that stand for a released average rather than one rater.
        kinds: source to kind where it is not a rating of others and the corpus's card does not say
            so itself.
        use_kinds: kinds that are merged; the rest is counted.
        precedence: sources in order of trust.
        source_tolerance: how far two sources may differ about one judgement, on [-1, 1].
        allow_proxy: take sentiment as valence where valence is missing.
        prior: VAD by category where VAD is missing.
        lexicon: VAD by the words of the text where it is missing, or of a less trusted kind.
        teacher: VAD by another model, likewise.
        signs: which table of Huo & Ge category and VAD are compared with.
        zero_tol: values this near to zero count as zero there.
        enforce_signs: quarantine what breaks the table instead of counting it.
        max_quarantine_fraction: a larger share of judgements set aside fails the stage.
    """

    merge: MergeRule = "mean"
    leave_one_out: bool = False
    weights_from: Literal["training", "all"] = "training"
    min_raters: int = Field(1, ge=1)
    required: tuple[str, ...] = ()
    category: Literal["majority", "soft"] = "majority"
    min_share: float = Field(0.0, ge=0, le=1)
    ties: Literal["none", "first", "quarantine"] = "none"
    several_votes: Literal["conflict", "split", "each"] = "conflict"
    multilabel_threshold: float = Field(0.5, gt=0, le=1)
    categories: tuple[str, ...] = ()
    multilabels: tuple[str, ...] = ()
    aliases: dict[str, str | None] = {}
    scales: dict[str, str | ScaleParams] = {}
    released_raters: tuple[str, ...] = ("released",)
    kinds: dict[str, Kind] = {}
    use_kinds: tuple[Kind, ...] = ("rated",)
    precedence: tuple[str, ...] = ()
    source_tolerance: float = Field(0.05, ge=0)
    allow_proxy: bool = False
    prior: PriorParams | None = None
    lexicon: LexiconParams | None = None
    teacher: TeacherParams | None = None
    signs: SignTable = "table1"
    zero_tol: float = Field(0.0, ge=0)
    enforce_signs: bool = False
    max_quarantine_fraction: float = Field(0.05, ge=0, le=1)

    @property
    def learns_by_fold(self) -> bool:
        """Whether labels differ from fold to fold."""
        return self.merge == "ewe" and self.weights_from == "training"
