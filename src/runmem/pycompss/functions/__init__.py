"""`pycompss.functions`."""
