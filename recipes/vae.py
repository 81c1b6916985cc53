"""A continuous VAE to compare codes with: does a WaveNet listen to latents that cost it something (van den Oord et al.
2017, sections 2 and 4.1)?

The networks of the default model without its speaker vector, so that nothing but the bottleneck tells the WaveNet what
is said: 250 frames per second, of a Gaussian of 16 dimensions each, or of a code of 512. Encoder, bottleneck and
conditioning first learn to tell the log-mel alone, and the WaveNet on what they then say; at last everything learns by
the bound, the WaveNet's likelihood with the KL divergence, whose weight rises slowly from zero (KL warm-up; Bowman et
al. 2016, arXiv 1511.06349; Sonderby et al. 2016, arXiv 1602.02282), the best that is known for a VAE. A WaveNet that
has not learned yet must not move the encoder: within a hundred steps that gives its codes up to please a deaf listener.

Corpus: the manifest of the recipe `speech16k`. The same run with codes, for which the KL divergence is a constant, is a
matter of one setting, and so is that without warm-up:

    vqaudio train vae --set corpus.path=/data/speech/manifest.csv --run-dir runs/vae
    vqaudio train vae --set bottleneck=codes --set corpus.path=/data/speech/manifest.csv --run-dir runs/vae_codes
    vqaudio train vae --set stages.bound.kl_ramp=0 --set corpus.path=/data/speech/manifest.csv --run-dir runs/vae_cold
    vqaudio probe collapse /data/test --model runs/vae_codes/model.safetensors --vae runs/vae/model.safetensors
"""

from vqaudio.models.config import CodecConfig, ConditioningConfig, EncoderConfig, Part, QuantizerConfig, WaveNetConfig
from vqaudio.training.recipe import CorpusConfig, LossWeights, OptimizerConfig, Recipe, Stage

LATENTS: tuple[Part, ...] = ("encoder", "quantizer", "conditioning")

RECIPE = Recipe(
    name="vae",
    corpus=CorpusConfig(kind="manifest", path="manifest.csv", subset="train"),
    codec=CodecConfig(
        name="vae",
        encoder=EncoderConfig(strides=(16, 4), channels=(192, 192), dilations=(1, 3, 9, 1, 3, 9)),
        quantizer=QuantizerConfig(codebook_size=512, code_dim=16),
        conditioning=ConditioningConfig(channels=192, layers=2),
        wavenet=WaveNetConfig(bands=4, channels=64, skip_channels=128),
        decoder="wavenet",
    ),
    bottleneck="gaussian",
    stages=(
        Stage(
            name="latents",
            steps=600,
            parts=LATENTS,
            weights=LossWeights(spectral=0.0, wavenet=0.0),
            quantize_after=100,
            commitment_ramp=300,
            kl_ramp=300,
            crop_seconds=0.64,
            learning_rate=5e-3,
        ),
        Stage(
            name="decoder",
            steps=400,
            parts=("wavenet",),
            weights=LossWeights(spectral=0.0, mel=0.0, commitment=0.0, codebook=0.0, kl=0.0),
            crop_seconds=0.64,
            batch_size=8,
            learning_rate=2e-3,
        ),
        Stage(
            name="bound",
            steps=500,
            parts=(*LATENTS, "wavenet"),
            weights=LossWeights(spectral=0.0, mel=0.0, commitment=0.25 / 64),  # per sample, as likelihood and KL are
            kl_ramp=250,
            crop_seconds=0.64,
            batch_size=8,
            learning_rate=3e-4,
        ),
    ),
    optimizer=OptimizerConfig(warmup_steps=100, final_share=0.02),
)

if __name__ == "__main__":
    from vqaudio.training.loop import main

    main(RECIPE)
