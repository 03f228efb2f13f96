"""Attribution with Captum's interface: what is explained (a class, a latent token) x how (the methods)."""
