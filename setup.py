"""Package metadata. Tool settings are in pyproject.toml."""

import pathlib
import re

import setuptools

_ROOT = pathlib.Path(__file__).parent
_INIT = (_ROOT / "weatherlib" / "__init__.py").read_text(encoding="utf8")
_VERSION = re.search(r'^__version__ = "([^"]+)"', _INIT, re.MULTILINE).group(1)

_CORE = [
    # 0.10.2 computes wrong numbers on CPU, 0.11.0 crashes (docs/dependencies.md).
    "jax>=0.8,!=0.10.2,!=0.11.0",
    "dm-haiku>=0.0.16",
    "optax>=0.2.7",
    "chex>=0.1.90",
    "jaxtyping>=0.2.36",
    "ml_dtypes>=0.4",
    "numpy>=1.26",
    "scipy>=1.11",
    "pandas>=2.1",
    "xarray>=2024.10",
    "dask>=2024.8",
    "netCDF4>=1.6.5",
    "h5netcdf[h5py]>=1.3",
    "zarr>=2.18",
    "trimesh>=4.4",
    "rtree>=1.3",
    "matplotlib>=3.8",
    "pillow>=10",
    "rich>=13",
    "tyro>=0.9",
    "pyyaml>=6",
    "pooch>=1.8",
]
_MP4 = ["imageio-ffmpeg>=0.5"]
_EXTRAS = {
    "grib": ["cfgrib>=0.9.15", "eccodes>=2.39", "pyproj>=3.6"],
    "cloud": ["fsspec>=2024.9", "gcsfs>=2024.9", "s3fs>=2024.9", "aiohttp>=3.9"],
    "cluster": ["distributed>=2024.8"],
    "open-data": ["ecmwf-opendata>=0.3.3"],
    "train": ["orbax-checkpoint>=0.11,<1", "tensorboardX>=2.6", "grain>=0.2.10"],
    "mp4": _MP4,
    "plot": _MP4,  # Its older name.
    "sim": ["dinosaur>=1.5"],
    "nowcast": ["pysteps>=1.14"],
    "docs": [
        "mkdocs-material>=9.5",
        "mkdocstrings[python]>=0.26",
        "mkdocs-jupyter>=0.25",
        "jupytext>=1.16",
        "nbclient>=0.10",
        "ipykernel>=6.29",
    ],
    "dev": [
        "beartype>=0.19",
        "hypothesis>=6.110",
        *_MP4,
        "import-linter>=2.1",
        "pyright>=1.1.380",
        "pytest>=8.2",
        "pytest-xdist>=3.6",
        "ruff>=0.7",
        "scores>=2.0",
        "setuptools>=77",
        "xarray-regrid>=0.4",
    ],
}

setuptools.setup(
    name="weatherlib",
    version=_VERSION,
    description="Machine-learned weather forecasting in JAX and Haiku",
    long_description=(_ROOT / "README.md").read_text(encoding="utf8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["weatherlib", "weatherlib.*"]),
    package_data={"weatherlib": ["py.typed", "resources/**/*"]},
    install_requires=_CORE,
    extras_require=_EXTRAS,
    entry_points={"console_scripts": ["weatherlib = weatherlib.cli.main:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Atmospheric Science",
    ],
)
