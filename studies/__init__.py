"""Experiments behind the defaults: how sure a choice is, and what accuracy each depth keeps."""
