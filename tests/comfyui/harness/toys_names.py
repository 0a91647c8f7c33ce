"""Names that tests need while they are collected, before ComfyUI is imported."""

HOLDERS = (
    "plain", "closure", "default argument", "partial", "slots", "set", "deque", "dict key", "bound method", "nested",
)
