"""The prior of the default model: how likely each next code is, given the codes before it and the speaker vector.

A causal dilated network over the last 32 codes, an eighth of a second, beyond which hearing more gained nothing (van
den Oord et al. 2017, section 3.3), trained on what the default model's encoder gives on the speech that trained it,
played at five speeds, so that it learns less of it by heart. `--set codec=speech16k-low` or `--set codec=FILE` takes
another codec.

Corpus: the manifest of the recipe `speech16k`.

    vqaudio train-prior speech16k_prior --set corpus.path=/data/speech/manifest.csv --run-dir runs/speech16k_prior
"""

from vqaudio.models.config import PriorConfig
from vqaudio.training.recipe import CorpusConfig, OptimizerConfig, PriorRecipe, Steps

RECIPE = PriorRecipe(
    name="speech16k_prior",
    corpus=CorpusConfig(kind="manifest", path="manifest.csv", subset="train"),
    prior=PriorConfig(),
    stages=(Steps(name="prior", steps=3000, learning_rate=1e-2, crop_seconds=2.048, batch_size=16),),
    speeds=(0.95, 1.0, 1.05, 1.1, 1.15),
    optimizer=OptimizerConfig(final_share=0.02, weight_ema=0.998),
)

if __name__ == "__main__":
    from vqaudio.training.loop import main

    main(RECIPE)
