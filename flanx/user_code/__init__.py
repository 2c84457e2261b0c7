"""The user's own code: importing it, finding its functions by name, telling where it failed, hashing it for keys."""
