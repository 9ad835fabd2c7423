"""How often the largest output is the label, for both graphs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Union

import numpy as np

from graphwq.errors import InputError
from graphwq.verify.npz import read_npz

#: The array of a feeds file that holds labels, where the graph has no tensor of that name.
LABELS = "labels"


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over labelled samples.

    Attributes:
        output: the tensor whose largest entry along the last axis is the answer.
        samples: how many there are.
        reference_right, candidate_right: how many of them each graph gets right.
    """

    output: str
    samples: int
    reference_right: int
    candidate_right: int

    @property
    def reference(self) -> float:
        """Accuracy of the reference, 0..1."""
        return self.reference_right / self.samples

    @property
    def candidate(self) -> float:
        """Accuracy of the candidate, 0..1."""
        return self.candidate_right / self.samples

    def to_json(self) -> Dict[str, Any]:
        """The accuracy as JSON data."""
        return {
            "output": self.output,
            "samples": self.samples,
            "reference_right": self.reference_right,
            "candidate_right": self.candidate_right,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Accuracy:
        """The inverse of ``to_json``.

        Raises:
            ValueError: no sample was counted.
        """
        if not data["samples"]:
            raise ValueError("an accuracy of no samples")
        return cls(
            data["output"], data["samples"], data["reference_right"], data["candidate_right"]
        )


class Counter:
    """Counts right answers while samples go by.

    Args:
        labels: the right class of every row of the output, whole numbers [rows].
    """

    def __init__(self, labels: np.ndarray) -> None:
        self._labels = labels
        self._output: Optional[str] = None
        self._seen = self._reference = self._candidate = 0

    def observe(self, expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> None:
        """Count one sample: the outputs of both graphs by tensor name.

        Raises:
            InputError: no output is a list of scores, or there are more rows than labels.
        """
        if self._output is None:
            self._output = next((name for name in expected if _are_scores(expected[name])), None)
        if self._output is None:
            raise InputError(
                "there are labels, but no output holds scores (floats with more than one along the "
                "last axis): name one with --outputs"
            )
        before, after = expected[self._output], got[self._output]
        if before.shape != after.shape:
            raise InputError(f"{self._output} has another shape in the candidate: no accuracy")
        answers = before.argmax(-1).reshape(-1), after.argmax(-1).reshape(-1)
        labels = self._labels[self._seen : self._seen + len(answers[0])]
        if len(labels) < len(answers[0]):
            raise InputError(
                f"there are {len(self._labels)} labels, and {self._output} has more rows: give a "
                "label for every sample"
            )
        self._seen += len(labels)
        self._reference += int(np.count_nonzero(answers[0] == labels))
        self._candidate += int(np.count_nonzero(answers[1] == labels))

    def result(self) -> Optional[Accuracy]:
        """The accuracy; None where no sample was seen.

        Raises:
            InputError: labels are left over.
        """
        if self._output is None:
            return None
        if self._seen != len(self._labels):
            raise InputError(
                f"there are {len(self._labels)} labels for {self._seen} rows of {self._output}: "
                "give a label for every sample"
            )
        return Accuracy(self._output, self._seen, self._reference, self._candidate)


def _are_scores(values: np.ndarray) -> bool:
    return values.dtype.kind == "f" and values.ndim > 0 and values.shape[-1] > 1


def read_labels(path: Union[str, Path]) -> np.ndarray:
    """The labels in an ``.npz`` file: its array ``labels``, or its only array.

    Raises:
        InputError: no such file, several arrays none of which is called labels, or no whole
            numbers.
    """
    arrays = read_npz(path)
    if LABELS not in arrays and len(arrays) != 1:
        raise InputError(
            f"{path} holds {len(arrays)} arrays and none called {LABELS!r}: name the right one so"
        )
    return as_labels(arrays.get(LABELS, next(iter(arrays.values()))))


def as_labels(values: np.ndarray) -> np.ndarray:
    """Whole numbers in one row.

    Raises:
        InputError: anything else.
    """
    if values.dtype.kind not in "iu" or not values.size:
        raise InputError(f"labels must be whole numbers, not {values.dtype} {list(values.shape)}")
    return values.reshape(-1)
