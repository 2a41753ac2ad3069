"""Adapters: one LoRA as a flat vector, many of them in one forward, PEFT in and out."""
