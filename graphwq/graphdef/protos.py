"""The protobuf classes, from tensorboard: they need no TensorFlow and load in 0.03 s.

They live in a proto package of their own, so a later ``import tensorflow`` does not clash. Graphs
go to and from TensorFlow as bytes.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

__all__ = [
    "AttrValue",
    "DecodeError",
    "FunctionDef",
    "GraphDef",
    "NodeDef",
    "TensorProto",
    "TensorShapeProto",
]
