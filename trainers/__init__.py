"""How networks are trained: torch and numpy, no Ray, no tables, no sweep."""
