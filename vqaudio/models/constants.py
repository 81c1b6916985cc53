"""Numbers that are part of the networks beside their weights and configurations: levels and limits of speech at 16 kHz.

They stand apart so that the runtime can have them without the networks.
"""

# Encoder: about unit variance after the compression.
COMPRESSED_GAIN = 0.4

# Quantiser.
DECISION_DELAY = 8  # frames after which a search along several paths decides a code
MOVING_AVERAGES = (".counts", ".sums", ".autocorrelation", ".crosscorrelation")  # for training alone

# Integer prior.
MOST_TERMS = 2048  # of one sum: 2048 * 127 * 8191 is below 2^31

# A network learns slowly what is far from zero mean and unit variance: typical values of what it should give.
MEL_MEAN, MEL_SPREAD = -2.6, 2.0  # log-mel, over bands and frames
LOG_MAGNITUDE = -3.6  # natural log of the magnitudes of an FFT of 512, over bins and frames

# WaveNet: root mean square of each sub-band of LibriSpeech, by the number of bands.
LEVELS = {1: (0.054,), 4: (0.052, 0.013, 0.0067, 0.0032)}
MU = 255  # mu-law levels but one

# Mixtures of discretised logistics.
BINS = 1 << 16
HALF_BIN = 1 / BINS  # the bins are those of 16-bit audio, centred on k / 32768 for k in [-32768, 32768)
LAST_BIN = 1 - 2 * HALF_BIN
LOG_SCALES = (-12.0, 5.0)  # between a third of a bin and as good as flat over all of them, float32 is exact
FLOOR = -5.0  # log-scale in units of the level: gradients grow with 1 / scale, and explode in silence without a floor

# Spectral decoder: pitch, and where its voice and its noise lie before anything is learnt.
PITCH = 140.0  # Hz, of which the head gives the distance in octaves
OCTAVES = (-1.5, 2.1)  # from it at most: 49.5 to 600 Hz
TURN = 1 << 32  # steps of a phase
VOICED_BELOW = 4000.0  # Hz; above it, and where nothing is voiced, noise is louder than the voice, below it fainter
UNLIKELY = -3.0  # natural log of the gain of what is fainter
