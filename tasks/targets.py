"""Which targets are judged together: a judgement that is partly unusable is unusable."""

from tasks.tables import EMI, VAD

#: Target to family. Valence, arousal and dominance stand or fall together, for a partial judgement
#: would bias the dimensions differently; so do the six EMI intensities.
FAMILIES = {
    **dict.fromkeys(VAD, "vad"),
    **dict.fromkeys(EMI, "emi"),
    "sentiment": "sentiment",
    "category": "category",
    "categories": "categories",
}
