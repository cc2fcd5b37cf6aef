"""Detection of objects in boxes: a torchvision detector on the first layers of a network."""
