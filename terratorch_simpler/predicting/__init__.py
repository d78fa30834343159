"""Maps of whole scenes from an exported model: by onnxruntime, numpy and rasterio alone."""
