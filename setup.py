"""graphwq: see README.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "graphwq" / "__init__.py").read_text()).group(
    1
)

# Ranges and their reasons: TensorFlow 1.15.3 exists for Python 3.7 only and needs protobuf < 3.21
# (its generated code) and numpy < 2. tensorboard carries the GraphDef protos, so that the core
# needs no TensorFlow; 1.15 comes with TensorFlow, later ones serve Python 3.8 and up. rich draws
# tables and progress bars, jinja2 fills the HTML pages; threadpoolctl keeps calibration independent
# of the number of BLAS threads.
CORE = [
    "numpy>=1.16",
    "networkx>=2.4",
    "protobuf<3.21; python_version<'3.8'",
    "protobuf>=3.20; python_version>='3.8'",
    "tensorboard>=1.15,<3",
    "rich>=12",
    "jinja2>=2.11",
]
TENSORFLOW = [
    "tensorflow==1.15.3; python_version<'3.8'",
    "threadpoolctl>=2; python_version<'3.8'",
]
TEST = ["pytest>=7", "pytest-xdist>=3", "hypothesis>=6", "jsonschema>=3"]
MNN = ["MNN==3.6.0"]
DEV = [
    "ruff>=0.5",
    "mypy>=1.4; python_version<'3.8'",
    "codespell>=2.2",
    "scikit-learn>=1.0",
    "pytest-cov>=4",
]

setup(
    name="graphwq",
    version=VERSION,
    description="Quantize weights of frozen TensorFlow 1.x graphs to 2..8 bits, without training",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["graphwq", "graphwq.*"]),
    package_data={
        "graphwq": ["py.typed", "*/*.json", "*/*.j2", "*/*/*.j2", "*/*/*.css", "*/*/*.js"]
    },
    python_requires=">=3.7",
    install_requires=CORE + TENSORFLOW,
    extras_require={"tf": TENSORFLOW, "test": TEST, "mnn": MNN, "dev": TEST + DEV},
    entry_points={"console_scripts": ["graphwq = graphwq.cli.main:entry"]},
)
