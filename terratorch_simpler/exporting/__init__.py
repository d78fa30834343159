"""A trained model on its way out: loaded from a checkpoint, written in a format, and proven."""
