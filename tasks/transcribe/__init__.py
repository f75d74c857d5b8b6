"""Stage ``transcribe``: the words of utterances that come without any."""
