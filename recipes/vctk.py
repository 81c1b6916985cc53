"""VCTK, the speech setting of the VQ-VAE paper (van den Oord et al. 2017, arXiv 1711.00937, section 4.3).

Corpus: VCTK 0.92, 44 hours of read English by the 109 speakers whose texts it has, first microphone (Yamagishi et al.
    2019). Fetched by torchaudio (11 GB) into `corpora/` where the command says so, or unpacked there by hand.
Licence: CC BY 4.0.
Setting: six convolutions of stride 2 and window 4, so 250 codes per second; one codebook of 512 codes, 2.25 kb/s; a
    WaveNet over mu-law samples, conditioned on the codes and on one of the speakers. Ours, because they keep the
    WaveNet from ignoring the codes: codes on the unit sphere that follow a moving average, and stages, in which the
    codes first learn to tell the log-mel spectrum. All speakers are trained on; single utterances are held out.

    vqaudio train vctk --set corpus.download=true

A WaveNet of one sample per step wants a GPU; `--set codec.wavenet.bands=4` takes four samples per step for about a
quarter of the cost.
"""

from vqaudio.models.config import CodecConfig, EncoderConfig, QuantizerConfig, SpeakerConfig, WaveNetConfig
from vqaudio.training.recipe import CorpusConfig, LossWeights, Recipe, Stage

RECIPE = Recipe(
    name="vctk",
    corpus=CorpusConfig(kind="vctk", path="corpora", validation_speakers=0),
    codec=CodecConfig(
        name="vctk",
        encoder=EncoderConfig(strides=(2,) * 6, channels=(64, 64, 128, 128, 256, 256), dilations=()),
        quantizer=QuantizerConfig(codebook_size=512),
        speaker=SpeakerConfig(kind="lookup"),  # as many as the corpus has
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
