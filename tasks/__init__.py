"""Task collections: one file each, only data and templates. Installed as `flanx.tasks`."""
