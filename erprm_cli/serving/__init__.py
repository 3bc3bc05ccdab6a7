"""A process reward model as an HTTP service, for trainers and search."""
