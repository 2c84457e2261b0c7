"""What `flanx.tasks.playground` is made of: a small world of words, the tasks over it, and text about it."""
