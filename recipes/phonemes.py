"""Codes as slow as phonemes, for the phoneme experiment of the VQ-VAE paper (van den Oord et al. 2017, section 4.3).

Corpus: LibriSpeech train-clean-100, 100 hours of audio books by 251 readers (Panayotov et al. 2015). Fetched by
    torchaudio (6 GB) into `corpora/` where the command says so, or unpacked there by hand.
Licence: CC BY 4.0.
Setting: 640 samples per code, so 25 codes per second, and one codebook of 128 codes, 175 b/s. The paper maps every code
    to its most frequent phoneme and so classifies 49.3 % of the frames. Ours are the stages and the codebook, as in the
    recipe for VCTK, and that the voice is computed from the utterance and sent beside the codes, which are left to say
    what is said. Whole readers are held out.

    vqaudio train phonemes --set corpus.download=true
"""

from vqaudio.models.config import CodecConfig, EncoderConfig, QuantizerConfig, SpeakerConfig, WaveNetConfig
from vqaudio.training.recipe import CorpusConfig, LossWeights, Recipe, Stage

RECIPE = Recipe(
    name="phonemes",
    corpus=CorpusConfig(kind="librispeech", path="corpora", subset="train-clean-100"),
    codec=CodecConfig(
        name="phonemes",
        encoder=EncoderConfig(strides=(2, 2, 2, 4, 4, 5), channels=(64, 64, 128, 128, 256, 256), dilations=()),
        quantizer=QuantizerConfig(codebook_size=128),
        speaker=SpeakerConfig(kind="reference"),
        wavenet=WaveNetConfig(
            bands=1, channels=128, skip_channels=256, dilations=tuple(2**i for i in range(10)) * 2, output="mulaw"
        ),
        decoder="wavenet",
    ),
    stages=(
        Stage(
            name="codes",
            steps=20_000,
            parts=("encoder", "quantizer", "speaker", "conditioning"),
            weights=LossWeights(spectral=0.0, wavenet=0.0),
            quantize_after=2_000,
            crop_seconds=2.0,
        ),
        Stage(
            name="decoder",
            steps=200_000,
            parts=("speaker", "conditioning", "wavenet"),
            weights=LossWeights(spectral=0.0),
        ),
        Stage(
            name="together",
            steps=200_000,
            parts=("encoder", "quantizer", "speaker", "conditioning", "wavenet"),
            weights=LossWeights(spectral=0.0),
            learning_rate=2e-4,
        ),
    ),
)

if __name__ == "__main__":
    from vqaudio.training.loop import main

    main(RECIPE)
