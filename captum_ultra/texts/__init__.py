"""From characters to tokens and back, and scores of tokens put together; knows nothing of what made them."""
