"""The method and nothing else: what a layer is, the losses, gradients and directions, the ranking,
the search and the edit. Tensors in, tensors out; no model library, no data source.
"""
