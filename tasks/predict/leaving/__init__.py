"""A model that leaves the project: as a folder, as graphs, on a hub; and read with suspicion."""
