"""What the tests on a real ComfyUI are built on."""
