"""One file per paper; see models/method.py for the contract."""
