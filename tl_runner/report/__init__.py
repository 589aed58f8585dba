"""Tables, paired tests and one HTML page from run and sweep folders. No torch, no Hydra."""
