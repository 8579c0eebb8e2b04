"""Multi-label attacks on torch modules and tensors, and the label knowledge graph."""
