"""T5.1.1: encoder-decoder, its configuration, sharding table, and cost."""
