from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from vqaudio.errors import RecipeError
from vqaudio.models.config import CodecConfig, QuantizerConfig, SpeakerConfig, SpectralConfig, WaveNetConfig
from vqaudio.training import recipe as recipe_module
from vqaudio.training.recipe import (
    CorpusConfig,
    LossWeights,
    Plan,
    Recipe,
    Stage,
    Steps,
    difference,
    from_json,
    load_recipe,
    override,
    resolve,
    to_json,
)

RECIPE = Recipe(
    name="small",
    corpus=CorpusConfig(path="speech"),
    codec=CodecConfig(quantizer=QuantizerConfig(codebook_size=64), spectral=SpectralConfig(dilations=(1, 2))),
    stages=(
        Stage("codes", 10, ("encoder", "quantizer"), LossWeights(mel=0.5), quantize_after=3),
        Stage("decoder", 20, ("spectral",)),
    ),
)

SOURCE = """
from vqaudio.models.config import CodecConfig
from vqaudio.training.recipe import CorpusConfig, Recipe

RECIPE = Recipe(name="mine", corpus=CorpusConfig(), codec=CodecConfig(), stages=())
if __name__ == "__main__":
    raise SystemExit("run")
"""


class TestLoad:
    def test_by_path(self, tmp_path):
        path = tmp_path / "mine.py"
        path.write_text(SOURCE)
        assert (
            load_recipe(path)
            == load_recipe(str(path))
            == Recipe(name="mine", corpus=CorpusConfig(), codec=CodecConfig(), stages=())
        )

    def test_by_shipped_name(self):
        assert load_recipe("vctk").codec.hop == 64

    @pytest.mark.parametrize("installed", [True, False])
    def test_shipped_in_the_package_or_beside_it(self, installed, tmp_path, monkeypatch):
        package = tmp_path / "site" / "vqaudio"
        monkeypatch.setattr(recipe_module, "__file__", str(package / "training" / "recipe.py"))
        for folder in [tmp_path / "site" / "recipes"] + [package / "recipes"] * installed:
            folder.mkdir(parents=True)
            (folder / "mine.py").write_text(SOURCE.replace('"mine"', repr(folder.parent.name)))
        assert load_recipe("mine").name == ("vqaudio" if installed else "site")

    @pytest.mark.parametrize("name", ["vtck", "LJspeech.txt", "nothing like it"])
    def test_unknown_name(self, name):
        with pytest.raises(RecipeError, match="nearest shipped recipe is") as caught:
            load_recipe(name)
        assert name in str(caught.value)

    def test_names_the_near_match(self):
        with pytest.raises(RecipeError, match="'librispeech'"):
            load_recipe("librispech")

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("X = 1\n", "exactly one Recipe, and it declares 0"),
            (SOURCE + "OTHER = RECIPE\n", "declares 2"),
            ("def broken(:\n", "SyntaxError"),
            ("raise SystemExit(7)\n", "SystemExit: 7"),
            ("import nothing_of_this_name\n", "nothing_of_this_name"),
            ("from vqaudio.training.recipe import Stage\nStage(depth=3)\n", "TypeError"),
        ],
    )
    def test_bad_file(self, source, message, tmp_path):
        path = tmp_path / "bad.py"
        path.write_text(source)
        with pytest.raises(RecipeError, match=message) as caught:
            load_recipe(path)
        assert "bad.py" in str(caught.value)

    def test_missing_file(self, tmp_path):
        with pytest.raises(RecipeError, match=r"gone\.py"):
            load_recipe(tmp_path / "gone.py")

    def test_needs_no_torch(self):
        code = "import sys; from vqaudio.training.recipe import load_recipe; load_recipe('vctk'); print(*sys.modules)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert not {"torch", "numba", "torchaudio"} & set(run.stdout.split())


class TestOverride:
    @pytest.mark.parametrize(
        ("setting", "read", "value"),
        [
            ("codec.spectral.channels=96", lambda r: r.codec.spectral.channels, 96),
            ("codec.decoder.channels=96", lambda r: r.codec.spectral.channels, 96),
            ("codec.decoder=wavenet", lambda r: r.codec.decoder, "wavenet"),
            ("stages.0.steps=7", lambda r: r.stages[0].steps, 7),
            ("stages.decoder.steps=7", lambda r: r.stages[1].steps, 7),
            ("stages.codes.weights.mel=2", lambda r: r.stages[0].weights.mel, 2.0),
            ("stages.codes.parts.1=speaker", lambda r: r.stages[0].parts, ("encoder", "speaker")),
            ("codec.spectral.dilations=[1,3,9]", lambda r: r.codec.spectral.dilations, (1, 3, 9)),
            ("codec.encoder.strides.2=8", lambda r: r.codec.encoder.strides, (8, 4, 8)),
            ("optimizer.betas=[0.9, 0.95]", lambda r: r.optimizer.betas, (0.9, 0.95)),
            ("optimizer.betas.0=0.9", lambda r: r.optimizer.betas, (0.9, 0.99)),
            ("codec.quantizer.codebook=loss", lambda r: r.codec.quantizer.codebook, "loss"),
            ('codec.quantizer.codebook="loss"', lambda r: r.codec.quantizer.codebook, "loss"),
            ("corpus.path=/a=b c", lambda r: r.corpus.path, "/a=b c"),
            ("corpus.path=2024", lambda r: r.corpus.path, "2024"),
            ("corpus.download=true", lambda r: r.corpus.download, True),
            ("codec.spectral=null", lambda r: r.codec.spectral, None),
            ("codec.wavenet={}", lambda r: r.codec.wavenet, WaveNetConfig()),
            ('codec.wavenet={"bands": 1}', lambda r: r.codec.wavenet, WaveNetConfig(bands=1)),
            ("seed=5", lambda r: r.seed, 5),
        ],
    )
    def test_replaces_one_value(self, setting, read, value):
        changed = override(RECIPE, [setting])
        assert read(changed) == value and type(read(changed)) is type(value)
        before, after = json.loads(to_json(RECIPE)), json.loads(to_json(changed))
        assert [key for key in before if before[key] != after[key]] == [setting.split(".")[0].split("=")[0]]

    def test_in_order(self):
        changed = override(RECIPE, ["codec.wavenet={}", "codec.wavenet.bands=1", "seed=1", "seed=2"])
        assert changed.codec.wavenet == WaveNetConfig(bands=1) and changed.seed == 2
        assert override(RECIPE, []) == RECIPE

    @pytest.mark.parametrize(
        ("setting", "nearest"),
        [
            ("codec.spectral.chanels=96", "codec.spectral.channels"),
            ("codec.spectrl.channels=96", "codec.spectral.channels"),
            ("codec.decoder.chanels=96", "codec.decoder.channels"),
            ("corups.path=x", "corpus.path"),
            ("stages.decodr.steps=1", "stages.decoder.steps"),
            ("stages.codes.weights.mels=1", "stages.codes.weights.mel"),
            ("optimizer.weight_emma=1", "optimizer.weight_ema"),
            ("sed=1", "seed"),
        ],
    )
    def test_unknown_key_names_the_nearest(self, setting, nearest):
        with pytest.raises(RecipeError, match=f"nearest is '{nearest}'") as caught:
            override(RECIPE, [setting])
        assert setting.split("=")[0] in str(caught.value)

    @pytest.mark.parametrize(
        "setting",
        ["stages.2.steps=1", "stages.-1.steps=1", "codec.decoder.chanels=96", "seed.x=1", "=1", ".=1", "a..b=1"],
    )
    def test_key_that_leads_nowhere(self, setting):
        with pytest.raises(RecipeError, match="no setting"):
            override(RECIPE, [setting])

    @pytest.mark.parametrize(
        "setting",
        [
            "codec.spectral.channels=many",
            "codec.spectral.channels=1.5",
            "codec.spectral.channels=true",
            "codec.spectral.channels=",
            "codec.quantizer.codebook=gradient",
            "optimizer.betas=[0.9]",
            "corpus.download=yes",
            "stages=[]x",
            "codec=5",
            'codec.spectral={"depth": 3}',
            "stages.0={}",
            "optimizer.accumulate=99999999999999999999",
        ],
    )
    def test_wrong_type(self, setting):
        with pytest.raises(RecipeError):
            override(RECIPE, [setting])

    def test_part_that_is_left_out(self):
        with pytest.raises(RecipeError, match=r"no 'codec\.wavenet'.*'codec\.wavenet=\{\}' adds it"):
            override(RECIPE, ["codec.wavenet.channels=3"])

    def test_not_a_setting(self):
        with pytest.raises(RecipeError, match="key=value"):
            override(RECIPE, ["codec.spectral.channels"])


def test_the_first_difference_has_the_key_that_sets_it():
    assert difference(RECIPE, RECIPE) == ""
    weight = f"stages.{RECIPE.stages[1].name}.weights.mel"
    for key, value in (("seed", "7"), (weight, "0.125"), ("codec.decoder", "wavenet")):
        other = override(RECIPE, [f"{key}={value}"])
        assert difference(RECIPE, other) == key
    assert difference(RECIPE, dataclasses.replace(RECIPE, stages=RECIPE.stages[:1])) == "stages"
    assert difference(RECIPE, dataclasses.replace(RECIPE, speeds=(1.0, 2.0))) == "speeds"


class TestJson:
    def test_round_trip(self):
        assert from_json(to_json(RECIPE), Recipe) == RECIPE
        assert isinstance(from_json(to_json(RECIPE), Recipe).stages[0].weights, LossWeights)

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"name": 3}', '{"nam": "x"}', "{}", "null"])
    def test_not_a_recipe(self, text):
        with pytest.raises(RecipeError):
            from_json(text, Recipe)


class TestResolve:
    corpus = SimpleNamespace(speaker_names=["a", "b", "c"])

    def table(self, rows, kind="lookup"):
        codec = dataclasses.replace(RECIPE.codec, speaker=SpeakerConfig(kind=kind, speakers=rows))
        corpus = dataclasses.replace(RECIPE.corpus, validation_speakers=0)
        return dataclasses.replace(RECIPE, codec=codec, corpus=corpus)

    def test_fills_in_the_speakers(self):
        assert resolve(self.table(0), self.corpus) == self.table(3)

    @pytest.mark.parametrize("recipe", [RECIPE, "reference", 3, 5])
    def test_leaves_the_rest(self, recipe):
        if recipe != RECIPE:
            recipe = self.table(0, recipe) if recipe == "reference" else self.table(recipe)
        assert resolve(recipe, self.corpus) == recipe

    def test_too_few_rows(self):
        with pytest.raises(RecipeError, match="2 speakers, and the corpus has 3"):
            resolve(self.table(2), self.corpus)


class TestCheck:
    def test_a_recipe_that_makes_sense(self):
        RECIPE.check()

    @pytest.mark.parametrize(
        "setting",
        [
            "optimizer.betas=[2, 2]",
            "optimizer.weight_decay=-1",
            "corpus.sample_seconds=-1",
            "stages.0.crop_seconds=Infinity",
            "seed=99999999999999999999999",
            "optimizer.accumulate=0",
            "optimizer.clip_norm=-1",
            "stages.0.steps=-1",
            "codec.spectral=null",
            "codec.encoder.kernel=4",
            "codec.encoder.strides=[0]",
            "speeds=[]",
            "speeds=[1, 0]",
            "schedule.log_every=0",
            "stages.0.crop_seconds=4000",
            "corpus.sample_seconds=1e300",
            "codec.quantizer.decay=1",
            "codec.quantizer.dropout=5",
            "codec.conditioning.jitter=-0.1",
            "codec.speaker.dropout=2",
        ],
    )
    def test_numbers_that_make_no_sense(self, setting):
        with pytest.raises(RecipeError):
            override(RECIPE, [setting]).check()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                ["stages.1.weights.mel=0", "codec.decoder=wavenet", "codec.spectral=null"],
                "learns something from a loss",
            ),
            (
                ['stages.1.parts=["conditioning"]', "stages.1.weights.adversarial=1", "stages.1.weights.spectral=0"],
                "learns from discriminators beside the spectral loss",
            ),
            (['stages.1.parts=["speaker"]', "codec.speaker.kind=none"], "learns something from a loss"),
            (["stages.1.quantize_after=1"], "starts a codebook only where the quantizer learns"),
        ],
    )
    def test_stages_that_make_no_sense_unless_they_have_no_steps(self, settings, message):
        wavenet = dataclasses.replace(RECIPE.codec, wavenet=WaveNetConfig())
        recipe = override(dataclasses.replace(RECIPE, codec=wavenet), settings)
        with pytest.raises(RecipeError, match=f"'decoder' .*{message}"):
            recipe.check()
        override(recipe, ["stages.1.steps=0"]).check()

    def test_a_codebook_that_learns_by_its_loss_has_one(self):
        settings = ["codec.quantizer.codebook=loss", "stages.0.weights.codebook=0"]
        override(RECIPE, settings[:1]).check()
        with pytest.raises(RecipeError, match="weighs the loss of a codebook"):
            override(RECIPE, settings).check()

    def test_speakers_held_out_have_no_rows(self):
        codec = dataclasses.replace(RECIPE.codec, speaker=SpeakerConfig(kind="lookup", speakers=3))
        with pytest.raises(RecipeError, match="validation_speakers=0"):
            dataclasses.replace(RECIPE, codec=codec).check()


@dataclass(frozen=True, kw_only=True)
class Walk(Plan):
    """A plan of another kind, with a field of its own."""

    verb = "walk"

    codec: str
    stages: tuple[Steps, ...]


WALK = Walk(name="far", corpus=CorpusConfig(), codec="codec.safetensors", stages=(Steps("on", 10, batch_size=4),))


class TestAnotherKind:
    def test_round_trip(self):
        assert from_json(to_json(WALK), Walk) == WALK
        with pytest.raises(RecipeError):
            from_json(to_json(WALK), Recipe)

    def test_override(self):
        changed = override(WALK, ["codec=other.safetensors", "stages.on.steps=3"])
        assert (changed.codec, changed.stages[0].steps) == ("other.safetensors", 3)
        with pytest.raises(RecipeError, match=r"nearest is 'stages\.on\.steps'"):
            override(WALK, ["stages.on.step=3"])

    def test_check(self):
        WALK.check()
        with pytest.raises(RecipeError, match="stage 'on'"):
            override(WALK, ["stages.on.batch_size=0"]).check()

    def test_a_script_for_another_verb(self, tmp_path):
        path = tmp_path / "mine.py"
        path.write_text(SOURCE)
        with pytest.raises(RecipeError, match="'vqaudio train'"):
            load_recipe(path, Walk)

    def test_a_script_may_declare_one_of_each(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "walk", SimpleNamespace(WALK=WALK))
        path = tmp_path / "mine.py"
        path.write_text(SOURCE.replace("RECIPE =", "from walk import WALK\nRECIPE ="))
        assert load_recipe(path, Walk) == WALK and load_recipe(path).name == "mine"
