"""LJSpeech: one voice, decoded fast by the spectral decoder.

Corpus: LJSpeech 1.1, 24 hours of audio books by one reader (Ito and Johnson 2017). Fetched by torchaudio (3 GB) into
    `corpora/` where the command says so, or unpacked there by hand.
Licence: public domain.
Setting: 64 samples per code, so 250 codes per second; one codebook of 512 codes, 2.25 kb/s, as in the VQ-VAE paper; the
    decoder is the feed-forward one (after Siuzdak 2023, arXiv 2306.00814). Only one voice is to be learnt, so there
    is no speaker vector; single utterances are held out.

    vqaudio train ljspeech --set corpus.download=true
"""

from vqaudio.models.config import CodecConfig, EncoderConfig, QuantizerConfig, SpectralConfig
from vqaudio.training.recipe import CorpusConfig, LossWeights, Recipe, Stage

RECIPE = Recipe(
    name="ljspeech",
    corpus=CorpusConfig(kind="ljspeech", path="corpora"),
    codec=CodecConfig(
        name="ljspeech",
        encoder=EncoderConfig(strides=(4, 4, 4)),
        quantizer=QuantizerConfig(codebook_size=512),
        spectral=SpectralConfig(),
        decoder="spectral",
    ),
    stages=(
        Stage(
            name="codes",
            steps=4_000,
            parts=("encoder", "quantizer", "conditioning"),
            weights=LossWeights(spectral=0.0, wavenet=0.0),
            quantize_after=500,
        ),
        Stage(
            name="decoder",
            steps=6_000,
            parts=("conditioning", "spectral"),
            weights=LossWeights(wavenet=0.0),
        ),
        Stage(
            name="together",
            steps=40_000,
            parts=("encoder", "quantizer", "conditioning", "spectral"),
            weights=LossWeights(wavenet=0.0),
            learning_rate=3e-4,
        ),
    ),
)

if __name__ == "__main__":
    from vqaudio.training.loop import main

    main(RECIPE)
