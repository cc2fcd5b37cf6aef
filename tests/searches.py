"""A small sweep whose fine-tuned schedule is searched, and a store that dies when asked to."""

from __future__ import annotations

SEARCHED = """\
name: searched
dataset: {name: digits, train: 10, renderings: 1, validation: 20, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, base_long, selffer+, transfer, transfer+]
layers: [1]
recipe: {rate: 0.03, weight_decay: 5e-4, steps: 3, batch: 8, schedule: {family: cosine}}
fine_tune:
  search: {trials: 5, at_once: 1, startup: 2, targets: [A]}
"""
