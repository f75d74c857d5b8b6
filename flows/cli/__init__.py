"""The command ``affectloom``: one module per group of commands, no logic."""
