"""Stage ``transfer``: runs judged on another corpus."""
