"""The MNN converter: what it will do with each weight, driving it, and reading back what it did."""
