"""Training of networks, with torch and numpy; no Ray, no tables, no sweep."""
