"""`pycompss.runtime`."""
