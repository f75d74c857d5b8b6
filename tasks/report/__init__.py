"""Stage ``report``: leaderboard, comparisons and the page."""
