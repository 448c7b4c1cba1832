"""Measuring Dask programs that do not use runmem's tasks, on the side of their client."""
