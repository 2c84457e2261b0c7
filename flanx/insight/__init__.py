"""What is in a token store, told to people: the report of `flanx cache --report`, and the advice of `flanx lengths`.

Reads manifests and stores alone: neither the sources nor TensorFlow are needed.
"""
