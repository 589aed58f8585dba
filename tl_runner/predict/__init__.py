"""The command ``tl-predict``: what a finished run makes of new pictures."""
