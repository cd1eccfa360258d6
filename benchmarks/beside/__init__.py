"""Olive Press beside raw Olive, AutoAWQ, PyTorch + PEFT, llama.cpp and OpenVINO GenAI on SmolLM2: `make bench`."""
