"""PyCOMPSs's import paths: `pycompss.api.task` and the others, re-exported from runmem (see `install`)."""
