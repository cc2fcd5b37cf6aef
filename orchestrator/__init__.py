"""Which trainings, where, and what came out."""
