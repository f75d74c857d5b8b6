"""Features that somebody else computed; ``tasks/features/foreign.py`` takes them as they are.

There is no network here: ``checkpoint`` names the file that ``affectloom import`` wrote, and the
stage features brings its rows into the order of the corpus. What the features are of stands in the
file, so this family has no modality of its own.
"""

MODALITY = "imported"
FEATURE_VERSION = 1
LIBRARIES = ()
POOLINGS = ("mean",)
CHUNK = 128
CHECKPOINT = "required"
