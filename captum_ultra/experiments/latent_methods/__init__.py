"""All methods for latent tokens, on texts and images whose truth is known: which one, how read, at which layer?"""
