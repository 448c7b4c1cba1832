"""Runs: sends calls to Dask, fetches results, and ends in order."""
