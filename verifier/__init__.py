"""The multi-label verifier: networks from ONNX, regions, properties, engines and their portfolio."""
