"""`python -m vqaudio`, which is the command `vqaudio` and what torchrun starts."""

from vqaudio.cli import main

main()
