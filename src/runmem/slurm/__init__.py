"""Slurm, for all that use it: its commands (`client.py`), its reasons and states (`reasons.py`), its options."""
