"""The exported model at work: ONNX Runtime GenAI, and plain ONNX Runtime for logits. No torch."""
