"""TensorRT: plans built ahead from ONNX models, cached, and run on CUDA streams.

Parts: `api` says what is there; `half` writes the precision into a model; `build` makes
a plan of it; `cache` keeps plans; `runner` runs them. Nothing here has run on a GPU yet. What could
be tried without one: TensorRT-RTX builds every plan, and each name of the interface that is used is
there in TensorRT 11's own bindings.
"""
