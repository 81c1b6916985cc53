"""LibriSpeech without speakers, the unconditional speech of the VQ-VAE paper (van den Oord et al. 2017, section 4.3).

Corpus: LibriSpeech train-clean-100, 100 hours of audio books by 251 readers (Panayotov et al. 2015). Fetched by
    torchaudio (6 GB) into `corpora/` where the command says so, or unpacked there by hand;
    `--set corpus.subset=train-clean-360` takes another subset.
Licence: CC BY 4.0.
Setting: seven convolutions of stride 2 and window 4, so 125 codes per second; one codebook of 512 codes, 1.125 kb/s; a
    WaveNet over mu-law samples that hears the codes alone, so that the codes have to carry the voice too. Whole readers
    are held out. Ours are the stages and the codebook, as in the recipe for VCTK.

    vqaudio train librispeech --set corpus.download=true
"""

from vqaudio.models.config import CodecConfig, EncoderConfig, QuantizerConfig, WaveNetConfig
from vqaudio.training.recipe import CorpusConfig, LossWeights, Recipe, Stage

RECIPE = Recipe(
    name="librispeech",
    corpus=CorpusConfig(kind="librispeech", path="corpora", subset="train-clean-100"),
    codec=CodecConfig(
        name="librispeech",
        encoder=EncoderConfig(strides=(2,) * 7, channels=(64, 64, 128, 128, 256, 256, 256), dilations=()),
        quantizer=QuantizerConfig(codebook_size=512),
        wavenet=WaveNetConfig(
            bands=1, channels=128, skip_channels=256, dilations=tuple(2**i for i in range(10)) * 2, output="mulaw"
        ),
        decoder="wavenet",
    ),
    stages=(
        Stage(
            name="codes",
            steps=20_000,
            parts=("encoder", "quantizer", "conditioning"),
            weights=LossWeights(spectral=0.0, wavenet=0.0),
            quantize_after=2_000,
        ),
        Stage(
            name="decoder",
            steps=200_000,
            parts=("conditioning", "wavenet"),
            weights=LossWeights(spectral=0.0),
        ),
        Stage(
            name="together",
            steps=200_000,
            parts=("encoder", "quantizer", "conditioning", "wavenet"),
            weights=LossWeights(spectral=0.0),
            learning_rate=2e-4,
        ),
    ),
)

if __name__ == "__main__":
    from vqaudio.training.loop import main

    main(RECIPE)
