"""The default model: any voice at 16 kHz in 2.25 kb/s.

250 frames per second with 512 predictive codes, a speaker vector of eight bytes computed from the utterance, and a
spectral decoder. Encoder, quantiser and conditioning first learn to tell the log-mel alone, which is cheap, then
everything learns together; then the spectral decoder against discriminators, which wants a GPU (the shipped weights,
trained on a CPU, went without: `--set stages.adversarial.steps=0`); at last a WaveNet over four bands learns on the
finished codes. Each batch is played at one of five speeds, for the sake of voices that the corpus does not have. A
sitting that goes on from a trained model may weigh the rate of the codes as well (`--set
codec.quantizer.rate_weight=0.005`); from the start that leaves too few codes in use.

Corpus: a manifest (CSV with the columns path, speaker and split) of read English speech: four and a half hours of
LibriSpeech (CC BY 4.0) and speechocean762 (free for commercial and other use) trained the shipped weights.

    vqaudio train speech16k --set corpus.path=/data/speech/manifest.csv --run-dir runs/speech16k
"""

from vqaudio.models.config import (
    CodecConfig,
    ConditioningConfig,
    EncoderConfig,
    Part,
    QuantizerConfig,
    SpeakerConfig,
    SpectralConfig,
    WaveNetConfig,
)
from vqaudio.training.recipe import CorpusConfig, LossWeights, OptimizerConfig, Recipe, Stage

CODES: tuple[Part, ...] = ("encoder", "quantizer", "speaker", "conditioning")

RECIPE = Recipe(
    name="speech16k",
    corpus=CorpusConfig(kind="manifest", path="manifest.csv", subset="train"),
    codec=CodecConfig(
        name="speech16k",
        encoder=EncoderConfig(
            strides=(16, 4),
            channels=(192, 192),
            dilations=(1, 3, 9, 1, 3, 9),
            gain=25 * 10**-0.5,  # 10 dB below the usual one, so that speech lies in the middle of the levels trained on
        ),
        quantizer=QuantizerConfig(codebook_size=512, code_dim=16, predictive=True, paths=4),
        speaker=SpeakerConfig(kind="reference"),
        conditioning=ConditioningConfig(channels=192, layers=2),
        wavenet=WaveNetConfig(bands=4, channels=64, skip_channels=128),
        spectral=SpectralConfig(channels=192, skip_channels=192, dilations=(1, 2, 4, 8, 1, 2, 4, 8, 16), fft_size=512),
    ),
    stages=(
        Stage(
            name="codes",
            steps=2000,
            parts=CODES,
            weights=LossWeights(spectral=0.0, wavenet=0.0),
            quantize_after=100,
            commitment_ramp=500,
            crop_seconds=0.64,
            learning_rate=5e-3,
        ),
        Stage(
            name="joint",
            steps=13000,
            parts=(*CODES, "spectral"),
            weights=LossWeights(pitch=0.3, intelligibility=1.5, mel=0.5, wavenet=0.0),
            crop_seconds=0.64,
            learning_rate=4e-3,
        ),
        Stage(
            name="adversarial",
            steps=3000,
            parts=("conditioning", "spectral"),
            weights=LossWeights(spectral=5.0, mel=0.5, wavenet=0.0, adversarial=1.0),
            crop_seconds=0.5,
            batch_size=12,
            learning_rate=4e-4,
        ),
        Stage(
            name="wavenet",
            steps=15000,
            parts=("wavenet",),
            weights=LossWeights(spectral=0.0, mel=0.0, commitment=0.0, codebook=0.0),
            crop_seconds=0.64,
            batch_size=4,
            learning_rate=8e-3,
        ),
    ),
    optimizer=OptimizerConfig(final_share=0.02),
    speeds=(0.95, 1.0, 1.05, 1.1, 1.15),
)

if __name__ == "__main__":
    from vqaudio.training.loop import main

    main(RECIPE)
