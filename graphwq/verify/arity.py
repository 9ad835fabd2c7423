"""How many outputs a node has. A NodeDef does not say; the ops that have several are listed here.

Sources: the op definitions of TensorFlow 1.15 (tensorflow/core/ops). An op that is not listed has
one output, or as many as its consumers read.
"""

from __future__ import annotations

from typing import Dict, Mapping

from graphwq.graphdef.node import Node, attr_of_int

#: Ops with a fixed number of outputs.
_FIXED: Dict[str, int] = {
    "BlockLSTM": 7,
    "BlockLSTMV2": 7,
    "BroadcastGradientArgs": 2,
    "CTCGreedyDecoder": 4,
    "CombinedNonMaxSuppression": 4,
    "CudnnRNN": 4,
    "DecodeWav": 2,
    "FusedBatchNorm": 5,
    "FusedBatchNormV2": 5,
    "FusedBatchNormV3": 6,
    "GRUBlockCell": 4,
    "LSTMBlockCell": 7,
    "ListDiff": 2,
    "LookupTableExportV2": 2,
    "MaxPoolWithArgmax": 2,
    "Merge": 2,
    "Moments": 2,
    "NonMaxSuppressionV4": 2,
    "NonMaxSuppressionV5": 3,
    "Qr": 2,
    "QuantizeDownAndShrinkRange": 3,
    "QuantizeV2": 3,
    "RefMerge": 2,
    "RefSwitch": 2,
    "RequantizationRange": 2,
    "Requantize": 3,
    "SampleDistortedBoundingBox": 3,
    "SampleDistortedBoundingBoxV2": 3,
    "SoftmaxCrossEntropyWithLogits": 2,
    "SparseFillEmptyRows": 4,
    "SparseReshape": 2,
    "SparseSoftmaxCrossEntropyWithLogits": 2,
    "StringSplit": 3,
    "Svd": 3,
    "Switch": 2,
    "TensorArrayConcatV3": 2,
    "TensorArrayV3": 2,
    "TFLite_Detection_PostProcess": 4,
    "TopK": 2,
    "TopKV2": 2,
    "Unique": 2,
    "UniqueV2": 2,
    "UniqueWithCounts": 3,
    "UniqueWithCountsV2": 3,
    "WholeFileReaderV2": 2,
}

#: Ops whose number of outputs is an integer attribute.
_COUNTED = {
    "DynamicPartition": "num_partitions",
    "QueueDequeueManyV2": "n",
    "ShapeN": "N",
    "Split": "num_split",
    "SplitV": "num_split",
    "Unpack": "num",
}

#: Ops whose number of outputs is the length of a list of types.
_TYPED = {
    "IdentityN": "T",
    "If": "Tout",
    "IteratorGetNext": "output_types",
    "PartitionedCall": "Tout",
    "PyFunc": "Tout",
    "StatefulPartitionedCall": "Tout",
    "StatelessIf": "Tout",
    "StatelessWhile": "T",
    "While": "T",
}

#: Quantized kernels give a tensor with the ends of its range; these give one tensor.
_QUANTIZED_SINGLE = ("QuantizedMatMulWithBiasAndDequantize",)


def output_count(node: Node, functions: Mapping[str, int]) -> int:
    """The number of outputs of a node as far as its op tells; at least 1.

    Args:
        node: the node.
        functions: number of outputs of each function of the library.
    """
    if node.op in functions:
        return max(functions[node.op], 1)
    if node.op in _FIXED:
        return _FIXED[node.op]
    if node.op in _COUNTED:
        return max(attr_of_int(node, _COUNTED[node.op], 1), 1)
    if node.op in _TYPED:
        attr = node.attr(_TYPED[node.op])
        return max(len(attr.list.type), 1) if attr is not None else 1
    if node.op.startswith("Quantized") and node.op not in _QUANTIZED_SINGLE:
        return 3
    return 1
