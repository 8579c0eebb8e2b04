"""Multi-label models: architectures, data sets, training, ONNX export, and the small zoo that ships."""
