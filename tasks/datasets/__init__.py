"""One adapter per corpus: its files in, utterances and annotations out."""
