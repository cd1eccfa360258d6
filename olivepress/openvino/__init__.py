"""The quantized base and the adapters on OpenVINO: by optimum-intel's graph and openvino_genai's own AdapterConfig."""
