"""The sampler of a node: one small process for each node and run, separate from Dask and from the workers.

Workers use `members` to choose the watched processes and `launch` to start the sampler. The other modules run in the
sampler, which is started by path and imports only the standard library and modules of this folder.
"""
