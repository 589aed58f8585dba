"""Reads run folders and sweep folders, and nothing else: tables, paired tests and one HTML page. No
torch, no Hydra."""
