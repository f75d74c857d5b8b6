"""Stage ``splits``: folds that share no people."""
