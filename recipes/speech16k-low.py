"""The low-rate model: the default one with 16 codes in place of 512, 1 kb/s.

It starts from the default model's weights, all but the codebook, which starts from the data at the second step.

Corpus: the manifest of the recipe `speech16k`.

    vqaudio train speech16k-low --set corpus.path=/data/speech/manifest.csv --run-dir runs/speech16k-low
"""

import dataclasses

from vqaudio.training.recipe import Recipe, load_recipe


def _at_low_rate(recipe: Recipe) -> Recipe:
    joint = next(stage for stage in recipe.stages if stage.name == "joint")
    return dataclasses.replace(
        recipe,
        name="speech16k-low",
        initial="speech16k",
        codec=dataclasses.replace(
            recipe.codec,
            name="speech16k-low",
            quantizer=dataclasses.replace(recipe.codec.quantizer, codebook_size=16, paths=8),
            wavenet=None,
        ),
        stages=(
            dataclasses.replace(
                joint, steps=4000, quantize_after=1, crop_seconds=1.024, batch_size=10, learning_rate=2e-3
            ),
        ),
    )


RECIPE = _at_low_rate(load_recipe("speech16k"))

if __name__ == "__main__":
    from vqaudio.training.loop import main

    main(RECIPE)
