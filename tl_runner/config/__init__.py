"""From words to checked configs: composed once, every problem told together. No torch."""
