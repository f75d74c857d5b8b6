"""The tables that stages hand on: a module a contract, declared once, checked on every border.

A stage imports only the contracts of the tables that it reads or writes, so a changed contract
reruns the stages that know that table and no other; ``contract`` says what a contract is, ``words``
has the closed sets of words that several share, ``parquet`` reads and writes.

``contract`` and ``parquet`` are mechanics, yet every stage depends on them, as on any code that it
runs: they decide which rows are taken and, by compression, order and row groups, which bytes are
written. DVC compares files, not what they mean, so it cannot know a comment there from another
order of rows, and to exempt the files would keep old bytes after such a change.

Ids are strings ``<corpus>/<dialogue>/<utterance>``; joins go by id, never by row order. Modalities
are ``audio``, ``video`` and ``text``. ``vad`` is valence, arousal, dominance in [-1, 1].
"""
