"""CTC models ready for use, ours and those of `transformers` alike: `loading.load` makes them from a name."""
