"""`pycompss.streams`."""
