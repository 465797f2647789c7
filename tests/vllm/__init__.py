"""Captioning by the real vLLM engine; run in its own environment by `make test-vllm`."""
