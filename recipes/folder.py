"""Your own files: any tree of audio, in which a file's speaker is the folder that it lies in.

Corpus: every WAV, FLAC, OGG, Opus or MP3 file below a folder, at any sample rate. With fewer than sixteen folders,
    single files are held out instead of voices.
Licence: yours.
Setting: 64 samples per code, so 250 codes per second; one codebook of 512 codes, 2.25 kb/s, as in the VQ-VAE paper; the
    decoder is the feed-forward one (after Siuzdak 2023, arXiv 2306.00814). The voice is computed from the utterance
    and sent once per file, so that voices never heard in training work too.

    vqaudio train folder --set corpus.path=/my/recordings
"""

from vqaudio.models.config import CodecConfig, EncoderConfig, QuantizerConfig, SpeakerConfig, SpectralConfig
from vqaudio.training.recipe import CorpusConfig, LossWeights, Recipe, Stage

RECIPE = Recipe(
    name="folder",
    corpus=CorpusConfig(kind="folder", path="recordings"),
    codec=CodecConfig(
        name="folder",
        encoder=EncoderConfig(strides=(4, 4, 4)),
        quantizer=QuantizerConfig(codebook_size=512),
        speaker=SpeakerConfig(kind="reference"),
        spectral=SpectralConfig(),
        decoder="spectral",
    ),
    stages=(
        Stage(
            name="codes",
            steps=4_000,
            parts=("encoder", "quantizer", "speaker", "conditioning"),
            weights=LossWeights(spectral=0.0, wavenet=0.0),
            quantize_after=500,
        ),
        Stage(
            name="decoder",
            steps=6_000,
            parts=("speaker", "conditioning", "spectral"),
            weights=LossWeights(wavenet=0.0),
        ),
        Stage(
            name="together",
            steps=40_000,
            parts=("encoder", "quantizer", "speaker", "conditioning", "spectral"),
            weights=LossWeights(wavenet=0.0),
            learning_rate=3e-4,
        ),
    ),
)

if __name__ == "__main__":
    from vqaudio.training.loop import main

    main(RECIPE)
