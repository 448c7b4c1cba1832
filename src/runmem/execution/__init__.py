"""A run: calls go out to Dask, results and measurements come back."""
