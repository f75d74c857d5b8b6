"""Sentences of the sample corpus: a small grammar whose words follow valence and dominance.

The valence of the words (five levels) and the dominance of the opening (three levels) are given;
topic and phrasing are drawn. Sarcastic sentences praise in words what is meant as blame.
"""

import numpy as np

_TOPICS = (
    "the concert", "my new job", "the dinner", "the party", "our trip", "the exam",
    "the meeting", "your letter", "the garden", "the match", "her speech", "the film",
    "his plan", "the train ride", "the phone call", "the lesson", "our house", "the show",
    "the weekend", "that story", "the picnic", "the repair", "the market", "the visit",
)  # fmt: skip

_CLAUSES = {
    2: (
        "I love {topic}",
        "{topic} was wonderful",
        "{topic} made me so happy",
        "what a joy {topic} is",
        "I adore {topic}",
        "{topic} went brilliantly",
    ),
    1: (
        "I enjoyed {topic}",
        "{topic} was nice",
        "I am glad about {topic}",
        "{topic} went rather well",
        "I like {topic}",
        "{topic} is a good thing",
    ),
    0: (
        "{topic} is on Monday",
        "we talked about {topic}",
        "{topic} begins at seven",
        "they mentioned {topic}",
        "{topic} takes an hour",
        "it is about {topic}",
    ),
    -1: (
        "{topic} was not so good",
        "I did not like {topic}",
        "{topic} went rather badly",
        "I worry about {topic}",
        "{topic} bothers me",
        "{topic} was a bit sad",
    ),
    -2: (
        "I hate {topic}",
        "{topic} was terrible",
        "{topic} made me miserable",
        "what a disaster {topic} is",
        "{topic} ruined everything",
        "I cannot bear {topic}",
    ),
}

_SARCASM = (
    "oh great, {topic} again",
    "just what I needed, {topic}",
    "{topic}, how lovely, really",
    "well done, {topic} is perfect now",
)

_OPENINGS = {
    1: (
        "Hear my order,",
        "I am the boss,",
        "Do as I say,",
        "I command it,",
        "I insist,",
        "Obey me,",
    ),
    0: ("", "", "Well,", "So,", "You know,", "Today"),
    -1: (
        "I am so unsure,",
        "Please forgive me,",
        "I am afraid",
        "If I may ask,",
        "Sorry,",
        "Perhaps",
    ),
}


def compose(valence: int, dominance: int, is_sarcastic: bool, rng: np.random.Generator) -> str:
    """One English sentence.

    Args:
        valence: level of the words, -2 (bad) to 2 (good).
        dominance: level of the opening, -1 (yielding) to 1 (commanding).
        is_sarcastic: words of praise that are not meant.
        rng: draws topic and phrasing.
    """
    clauses = _SARCASM if is_sarcastic else _CLAUSES[valence]
    clause = clauses[rng.integers(len(clauses))].format(topic=_TOPICS[rng.integers(len(_TOPICS))])
    opening = _OPENINGS[dominance][rng.integers(len(_OPENINGS[dominance]))]
    sentence = f"{opening} {clause}".strip()
    return sentence[0].upper() + sentence[1:] + "."
