"""The sampler of a node: one small process a node and run, apart from Dask and from the workers that it watches.

`members` says which processes are watched and `launch` sees to it that the sampler lives; both are called by the
workers. The rest is the sampler's own, and is started by path, never through the package: the sampler imports nothing
but the standard library and its neighbours in this folder.
"""
