"""What a person can ask for: plain frozen dataclasses, presets, checks, JSON. Free of JAX, so that help is instant."""
