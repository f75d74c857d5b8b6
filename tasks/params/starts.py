"""Whose runs ``init_from`` names; on its own, since params.yaml is checked without networks."""


def start_of(init_from: str, corpus: str) -> tuple[str, str]:
    """Corpus and method: ``method`` is one of ``corpus``, ``other/method`` one of another."""
    origin, _, method = init_from.rpartition("/")
    return origin or corpus, method
