"""Plan trainings, run them anywhere, and report the results."""
