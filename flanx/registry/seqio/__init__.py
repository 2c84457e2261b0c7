"""flanx's tasks in SeqIO's registries, and those of others in flanx's selections."""
