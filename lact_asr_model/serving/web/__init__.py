"""The web page of `lact-asr demo --web`: a recording before and after adaptation, clean and in noise."""
