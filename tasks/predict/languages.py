"""Words in languages that the text encoder does not know are said so."""

from collections.abc import Iterator, Mapping

from tasks.predict.model import Model
from tasks.predict.plan import Plan

#: Most utterances that a sentence names.
_NAMED = 6


def foreign_words(plan: Plan, model: Model) -> Iterator[str]:
    """A sentence for each encoder and language that it does not know; none where either is unknown.

    Args:
        plan: utterances with their words.
        model: what answers.
    """
    spoken: dict[str, list[int]] = {}
    for number, part in enumerate(plan.stretches, 1):
        if part.text and part.language:
            spoken.setdefault(_base(part.language), []).append(number)
    for encoder, known in _known(model).items():
        for language, numbers in spoken.items():
            if language not in known:
                yield (
                    f"{_which(numbers)} in language '{language}', which {encoder} does not know "
                    f"(it knows {', '.join(known)}): what is read out of these words counts little"
                )


def _known(model: Model) -> Mapping[str, tuple[str, ...]]:
    """Text encoder to the languages that it knows, where its entry says them."""
    return {
        name: tuple(_base(one) for one in part.encoders[name].languages or ())
        for part in model.parts
        for name in part.read.get("text", ())
        if part.encoders[name].languages
    }


def _base(tag: str) -> str:
    """The language of a tag: ``pt`` of ``pt-BR``."""
    return tag.replace("_", "-").split("-")[0].lower()


def _which(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"the words of utterance {numbers[0]} are"
    named = ", ".join(map(str, numbers[:_NAMED]))
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"the words of utterances {named}{more} are"
