"""The networks made fast: the same mathematics as in `vqaudio.models`, and tested against it."""
