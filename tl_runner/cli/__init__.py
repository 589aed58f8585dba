"""The console scripts, one a module. No torch here: help and complaints answer at once."""
