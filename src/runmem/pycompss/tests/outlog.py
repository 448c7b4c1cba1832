"""`pycompss.tests.outlog`: a logger that writes to standard output."""

from __future__ import annotations

import logging
import sys

__all__ = ["create_logger"]


def create_logger() -> logging.Logger:
    """Return a logger that writes everything to standard output."""
    logger = logging.getLogger("pycompss.tests")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.setLevel(logging.DEBUG)
    return logger
