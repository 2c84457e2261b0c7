"""Decoders without encoder: PaLM, Llama, Mistral, Qwen, Gemma and OLMo are settings of one network."""
