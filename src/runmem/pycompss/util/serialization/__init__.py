"""`pycompss.util.serialization`."""
