"""What is compared, by name: functions from a seed to a `Comparison`."""

from tests.random_models import beside_itself, beside_keras

COMPARISONS = {
    "bptt": beside_keras.of_bptt,
    "truncated": beside_keras.of_truncated,
    "resets": beside_keras.of_resets,
    "refused": beside_keras.of_refused,
    "compiled": beside_itself.of_compiled,
    "saved": beside_itself.of_saved,
    "half": beside_itself.of_half,
}
