"""Models: the ones that ship with the package, and a loader by name for the libraries around it."""
