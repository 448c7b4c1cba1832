"""`pycompss.util`."""
