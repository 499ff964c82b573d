"""Where things are on the sphere, and how grids and meshes connect.

NumPy and SciPy only: nothing here imports JAX. Networks receive the finished
`graph.GraphGeometry` and never build graphs themselves.
"""
