"""`pycompss.api`."""
