"""What a text contributed to its latent tokens."""
