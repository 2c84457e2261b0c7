"""What flanx runs on: the accelerators there are, and a CPU's memory."""
