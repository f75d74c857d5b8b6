"""Stage ``faces``: who is to be seen when."""
