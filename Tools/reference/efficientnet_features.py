#!/usr/bin/env python3
"""What ONNX Runtime computes with EfficientNet-Lite0 for one input that has a formula.

    efficientnet_features.py efficientnet-lite0.onnx Tests/EndToEndTests/Fixtures/efficientnet-lite0.features.safetensors
"""
import json
import struct
import sys

import numpy as np
import onnxruntime

index = np.arange(3 * 224 * 224, dtype=np.uint64)
x = ((index * 2654435761 % 2**32).astype(np.float64) / 2**31 - 1).astype(np.float32).reshape(1, 3, 224, 224)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
features = session.run(["features"], {session.get_inputs()[0].name: x})[0].astype("<f4")
header = json.dumps({"features": {"dtype": "F32", "shape": list(features.shape), "data_offsets": [0, features.nbytes]}}).encode()
header += b" " * (-len(header) % 8)
with open(sys.argv[2], "wb") as file:
    file.write(struct.pack("<Q", len(header)) + header + features.tobytes())
