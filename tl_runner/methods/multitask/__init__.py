"""Several tasks on one network."""
