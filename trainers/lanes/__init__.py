"""Trainings of one network on images of one shape, computed together: a pack of lanes.

Each lane is an ordinary training (`loop.lane`) with its own `Learner`. Only the arithmetic is
shared: `forward.py` joins equal layers into one operation, `stack.py` keeps the weights of all
lanes in one tensor, `updates.py` joins the optimisers, and `pack.py` runs the lanes side by side.

A lane gives the numbers of the same training alone up to rounding. It gives the same bits whatever
the other lanes are, and wherever it stands among them.
"""
