"""A model as an ONNX graph for onnxruntime: the shared layer stored once, halted tokens left out of the computation."""
