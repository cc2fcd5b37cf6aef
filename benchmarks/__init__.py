"""This program beside what a competent user writes with Ray Tune: see README.md in this folder."""
