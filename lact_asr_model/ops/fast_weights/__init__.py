"""Fast weights of the LaCT layer: `closed_form` is what runs, `naive` the oracle that it is held to."""
