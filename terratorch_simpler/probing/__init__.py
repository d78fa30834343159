"""What each depth offers on labelled tiles: frozen features of all layers from one pass."""
