"""Affectloom from Python: trained models on media and tables, and a project's own tables.

    import affectloom

    model = affectloom.load("models/starter")                   # or "corpus/method" of a project
    model.predict("talk.mp4")                                   # a polars table, a row an utterance
    affectloom.Project("my_clone").labels("sample")

Everything here is a thin layer over ``tasks``; torch and polars are imported when they are needed.
"""

from affectloom import _names  # before all else: says so where another package is in the way
from affectloom.model import Model, load
from affectloom.project import Project
from models.encoders.encoder import Sound, Text
from models.errors import UserError

__all__ = ["Model", "Project", "Sound", "Text", "UserError", "load"]

del _names
