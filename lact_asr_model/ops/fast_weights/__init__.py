"""Fast weights of the LaCT layer: the `closed_form`, its kernels for GPUs in `fused`, the `naive` oracle of both.

`dispatch` is what the layer calls; it decides between the first two.
"""
