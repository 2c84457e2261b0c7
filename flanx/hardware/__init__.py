"""What the accelerators are that flanx runs on."""
