"""Words out of sound: Whisper's decoder over the states of its encoder, with times."""
