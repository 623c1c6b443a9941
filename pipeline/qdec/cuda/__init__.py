"""What runs on a GPU on either side of a network, and the tables that drive it.

``unpack`` makes a network's input of packed rounds, ``residual`` commits a hard network's
corrections, ``edges`` makes edge weights of a soft network's output, and ``components`` answers of
those, where it can: one launch each per batch, and none waits for the host. The kernels are in
``kernels/*.cu``; `qdec.cuda.reference` and `qdec.cuda.component_reference` say in NumPy what each
computes. Tests hold the kernels to it on the CPU, through an emulation of blocks and
warps. They compile for sm_80 to sm_120, and have not run on a GPU yet.

Who owns what. The *arena* (packed windows, anywhere in it) and the *results* (a record per window,
see `qdec.cuda.record`) belong to the caller: memory of the host, pinned and mapped, or of the
device; kernels read the one and write the other where offsets say, and keep neither. So do the
network's input and output and the tables on the device, one set per kind of window and stream
(`qdec.accelerator.gpu_frame`); `scratch` (partial sums, counters) belongs to one captured frame,
since launches that run at once must not share it. PyCUDA holds what is the host's, CuPy what is the
device's, both in the primary context (`qdec.cuda.on_gpu`), and nothing is allocated, freed or
synchronised once a frame has been captured. Offsets of a batch must stay as they are until its
launch has run; a negative one says that a place of the batch is empty, so that a captured graph
serves fewer windows than it was made for.
Kernels check nothing: tables are checked when they are made, launches when they are planned, and
where windows lie and how large they are when they are asked for (`Exchange.request`, `Worker`).
"""
