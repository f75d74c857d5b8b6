"""MultiDAG+CL and its directed graph network."""
