"""What one batch costs: objectives `(model, batch, step, *, key) -> (loss, terms)`."""
