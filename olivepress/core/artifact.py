"""Names of the files in an exported model and a release."""

MODEL = "model.onnx"
ADAPTER_SUFFIX = ".onnx_adapter"
# The native operators, where a target has them: a library for each kind of processor, by Linux's name of it. x86-64's,
# once the only one, has no processor in its name, and genai_config.json names it where there is no portable graph.
LIBRARY = "olivepress_lora.so"
LIBRARIES = {"x86_64": LIBRARY, "aarch64": "olivepress_lora.aarch64.so"}
# The graph that calls them, where MODEL is a portable one; both read MODEL's data file.
OPERATORS = "model.operators.onnx"


def library_for(processor: str) -> str:
    """The library for a processor, by Linux's name of it; where there is none, the one of genai_config.json."""
    return LIBRARIES.get(processor, LIBRARY)
