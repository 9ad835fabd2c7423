"""What is to be done with every weight, as plain data with a JSON form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple, Union

from graphwq.errors import InputError
from graphwq.graphdef import jsontext
from graphwq.quant.scheme import (
    QuantScheme,
    granularity_from_json,
    granularity_to_json,
    whole,
)
from graphwq.rewrite.mixture import Mixture
from graphwq.survey.sites import Skip

FORMAT = "graphwq-plan"
VERSION = 1

BAKE, DEQUANT, FAKE_QUANT = "bake", "dequant", "fake_quant"
STORAGES = (DEQUANT, BAKE, FAKE_QUANT)

PLANES, BITS = "planes", "bits"
LAYOUTS = (PLANES, BITS)


@dataclass(frozen=True)
class Whole:
    """The weight is decoded in one piece, which TensorFlow folds when the session starts."""


@dataclass(frozen=True)
class Split:
    """Weight and consumers are cut along ``axis`` into pieces that TensorFlow folds."""

    axis: int
    sizes: Tuple[int, ...]


@dataclass(frozen=True)
class Rows:
    """An embedding table: integer rows are gathered first and only those are dequantized.

    ``sizes`` cuts the rows into pieces for the consumers that multiply with the table (a tied
    embedding); empty where all consumers gather.
    """

    sizes: Tuple[int, ...] = ()


Form = Union[Whole, Split, Rows]


@dataclass(frozen=True)
class Rule:
    """A wish for the weights whose name matches; of several rules that match the last one wins.

    Attributes:
        pattern: shell pattern (``*``, ``?``, ``[...]``) for the whole weight name.
        num_bits: 2..8, or None to keep the weights float.
        op: shell pattern for the op of a consumer.
    """

    pattern: str
    num_bits: Optional[int]
    op: str = "*"


@dataclass(frozen=True)
class PlanItem:
    """What is done with one weight.

    Attributes:
        weight: its name (``function:node`` in a function body).
        storage: ``dequant``, ``bake`` or ``fake_quant``.
        scheme: the grid.
        stored_bits: bits per code in the ``dequant`` form: 8 (int8), or ``num_bits`` packed.
        form: how the ``dequant`` form is built.
        layout: how packed codes lie in bytes: ``planes`` (``packing.pack``) or ``bits``
            (``packing.pack_bits``, for a weight in one piece).
        bias: the constant that takes the mean of the layer's output error; "" for none.
    """

    weight: str
    storage: str
    scheme: QuantScheme
    stored_bits: int
    form: Form = Whole()
    layout: str = PLANES
    bias: str = ""

    def to_json(self) -> Dict[str, Any]:
        """The item as JSON data."""
        corrected = {"bias": self.bias} if self.bias else {}
        return {
            "weight": self.weight,
            "storage": self.storage,
            "num_bits": self.scheme.num_bits,
            "granularity": granularity_to_json(self.scheme.granularity),
            "symmetric": self.scheme.symmetric,
            "narrow_range": self.scheme.narrow_range,
            "method": self.scheme.method,
            "scale_bits": self.scheme.scale_bits,
            "stored_bits": self.stored_bits,
            "form": _form_to_json(self.form),
            "layout": self.layout,
            **corrected,
        }


@dataclass(frozen=True)
class Calibration:
    """What the codes of a plan were chosen by.

    Attributes:
        origin: ``synthetic`` (made from the seed), ``file``, or ``bn`` (no inputs at all).
        samples: how many inputs.
        seed: of synthetic ones.
        digest: sha256 of the inputs; "" where there are none.
        made_up: how many were made from the seed beside those of a file; not in the digest.
    """

    origin: str
    samples: int
    seed: int
    digest: str
    made_up: int = 0

    def to_json(self) -> Dict[str, Any]:
        """The calibration as JSON data."""
        return {
            "origin": self.origin,
            "samples": self.samples,
            "seed": self.seed,
            "digest": self.digest,
            "made_up": self.made_up,
        }

    @classmethod
    def from_json(cls, data: Any) -> Calibration:
        """The inverse of ``to_json``."""
        return cls(
            _text(data["origin"]),
            whole(data["samples"]),
            whole(data["seed"]),
            _text(data["digest"]),
            whole(data.get("made_up", 0)),
        )


@dataclass(frozen=True)
class Plan:
    """The fate of every weight of one graph.

    Attributes:
        graph_digest: sha256 of the graph that it was made for; None for a plan that has not left
            the process in which it was made.
        items: what is quantized.
        skips: every float constant and variable that is not, with the reason.
        calibration: what the codes were chosen by, where they were calibrated.
        mixture: what the widths were chosen by, where a target asked for it.
    """

    graph_digest: Optional[str]
    items: Tuple[PlanItem, ...]
    skips: Tuple[Skip, ...]
    calibration: Optional[Calibration] = None
    mixture: Optional[Mixture] = None

    def to_json(self) -> Dict[str, Any]:
        """The plan as JSON data."""
        made = {} if self.calibration is None else {"calibration": self.calibration.to_json()}
        mixed = {} if self.mixture is None else {"mixture": self.mixture.to_json()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "graph_digest": self.graph_digest,
            **made,
            "items": [item.to_json() for item in self.items],
            "skips": [skip.to_json() for skip in self.skips],
            **mixed,
        }

    def dumps(self) -> str:
        """The plan as JSON text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def loads(cls, text: str) -> Plan:
        """Read a plan.

        Raises:
            InputError: not JSON, not a plan, or of a version that this graphwq does not know.
        """
        try:
            data = jsontext.loads(text)
        except ValueError as error:
            raise InputError(f"not a plan: {error}") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f'not a plan: "format" must be "{FORMAT}"; make one with graphwq plan')
        if data.get("version") != VERSION:
            raise InputError(
                f"a plan of version {data.get('version')!r}; this graphwq reads version {VERSION}"
            )
        try:
            digest = data["graph_digest"]
            items = tuple(_item_from_json(item) for item in data["items"])
            skips = tuple(
                Skip(_text(skip["node"]), _text(skip["reason"]), _text(skip["detail"]))
                for skip in data["skips"]
            )
            made = data.get("calibration")
            calibration = None if made is None else Calibration.from_json(made)
            mixed = data.get("mixture")
            mixture = None if mixed is None else Mixture.from_json(mixed)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"a damaged plan: {type(error).__name__} {error}") from error
        if not (digest is None or isinstance(digest, str)):
            raise InputError(f"a damaged plan: graph_digest is {digest!r}")
        names = [item.weight for item in items]
        if len(set(names)) < len(names):
            raise InputError("a damaged plan: a weight occurs twice")
        return cls(digest, items, skips, calibration, mixture)


def _form_to_json(form: Form) -> Dict[str, Any]:
    if isinstance(form, Split):
        return {"kind": "split", "axis": form.axis, "sizes": list(form.sizes)}
    if isinstance(form, Rows):
        return {"kind": "rows", "sizes": list(form.sizes)}
    return {"kind": "whole"}


def _form_from_json(data: Any) -> Form:
    kind = data["kind"]
    if kind == "split":
        return Split(whole(data["axis"]), tuple(whole(size) for size in data["sizes"]))
    if kind == "rows":
        return Rows(tuple(whole(size) for size in data["sizes"]))
    if kind == "whole":
        return Whole()
    raise InputError(f"a damaged plan: form {kind!r}")


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"a damaged plan: {value!r} is neither true nor false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"a damaged plan: {value!r} is not a text")
    return value


def _item_from_json(data: Any) -> PlanItem:
    storage = data["storage"]
    if storage not in STORAGES:
        raise InputError(f"a damaged plan: storage {storage!r}; use one of {', '.join(STORAGES)}")
    scheme = QuantScheme(
        whole(data["num_bits"]),
        granularity_from_json(data["granularity"]),
        _truth(data["symmetric"]),
        _truth(data["narrow_range"]),
        _text(data["method"]),
        whole(data["scale_bits"]),
    )
    stored = whole(data["stored_bits"])
    if stored not in (8, scheme.num_bits):
        raise InputError(
            f"a damaged plan: stored_bits {stored} for {scheme.num_bits}-bit codes; "
            f"8 or {scheme.num_bits} is possible"
        )
    layout = data.get("layout", PLANES)
    if layout not in LAYOUTS:
        raise InputError(f"a damaged plan: layout {layout!r}; use one of {', '.join(LAYOUTS)}")
    form = _form_from_json(data["form"])
    bias = _text(data.get("bias", ""))
    return PlanItem(_text(data["weight"]), storage, scheme, stored, form, layout, bias)
