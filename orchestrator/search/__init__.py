"""The learning-rate schedule of fine-tuned trials, searched by Optuna inside the same sweep.

declaration  what a sweep file says of a search
space        the space as a tree of parameters; a recipe from them, and them from a recipe
study        a study: what its trials train on, in which order; its id
sampling     what to try next, whom to prune: the only module that imports Optuna
planning     the studies of a sweep
carrying     a study being carried out: its rows, its trials, its choice
evidence     what the choice of a study is worth on cells that it never saw
showing      how far a study is and what it found, for a reader
"""
