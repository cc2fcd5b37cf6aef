"""A dataset and a network of one's own; `sweep.yaml` beside this folder names both."""
