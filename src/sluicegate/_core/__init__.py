"""The nouns: values that do no I/O."""
