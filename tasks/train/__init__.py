"""Stage ``train``: one method on one corpus."""
