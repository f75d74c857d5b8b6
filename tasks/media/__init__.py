"""Reading media that strangers made."""
