"""graphwq: see README.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "graphwq" / "__init__.py").read_text()).group(
    1
)

# Every dependency has a range, and the reason for it stands above it. The tests run with the newest
# that each Python gets. Lower ends are where what is used appeared; upper ends are the next major
# version, which nobody has tried.
CORE = [
    # Arrays. TensorFlow 1.15.3 was built against 1.x (Python 3.7 gets no other); 2.x is tested.
    "numpy>=1.16,<3",
    # The view of a graph that users get (View.networkx); nothing else needs it.
    "networkx>=2.4,<4",
    # Parses AttrValue and TensorProto. TensorFlow 1.15.3 and tensorboard 1.15 carry generated code
    # that protobuf 3.21 refuses; newer tensorboards carry newer code.
    "protobuf>=3.8,<3.21; python_version<'3.8'",
    "protobuf>=3.20,<8; python_version>='3.8'",
    # Only for the GraphDef protos that it ships, so that the core needs no TensorFlow.
    "tensorboard>=1.15,<3",
    # Tables that fold to a terminal, progress bars.
    "rich>=12,<16",
    # Fills the HTML pages, with autoescape on.
    "jinja2>=3.0,<4",
]
TENSORFLOW = [
    # Runs graphs and trains. 1.15.3 is the version that all numbers were measured with; its wheels
    # are for Python 3.7 and older.
    "tensorflow==1.15.3; python_version<'3.8'",
    # Keeps calibration independent of the number of BLAS threads.
    "threadpoolctl>=2,<4; python_version<'3.8'",
]
TENSORFLOW_2 = [
    # Runs graphs through tensorflow.compat.v1; does not train. Tested with 2.13 and 2.21.
    "tensorflow>=2.13,<3; python_version>='3.8'",
    # As above.
    "threadpoolctl>=2,<4; python_version>='3.8'",
]
TEST = [
    # Runs the tests.
    "pytest>=7,<10",
    # On all cores.
    "pytest-xdist>=3,<4",
    # Property-based tests.
    "hypothesis>=6,<7",
    # Checks diff JSON against its schema.
    "jsonschema>=3,<5",
]
MNN = [
    # The converter whose rules for names, grids and flags graphwq knows: one version exactly.
    "MNN==3.6.0",
]
DEV = [
    # Lint and format.
    "ruff>=0.5,<1",
    # Types; the last one for Python 3.7.
    "mypy>=1.4,<2; python_version<'3.8'",
    # Spelling.
    "codespell>=2.2,<3",
    # The images that the fixtures were trained on.
    "scikit-learn>=1.0,<2",
    # What the tests reach.
    "pytest-cov>=4,<8",
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
    extras_require={
        "tf": TENSORFLOW,
        "tf2": TENSORFLOW_2,
        "test": TEST,
        "mnn": MNN,
        "dev": TEST + DEV,
    },
    entry_points={"console_scripts": ["graphwq = graphwq.__main__:start"]},
)
