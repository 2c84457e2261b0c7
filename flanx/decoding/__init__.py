"""From parameters to text's token ids: greedy decoding, and scores of given continuations."""
