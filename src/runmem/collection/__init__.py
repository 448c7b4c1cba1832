"""Collects the files that nodes write: spools, copies of them, events and observers."""
