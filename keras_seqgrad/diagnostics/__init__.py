"""How good the gradient is that a model is trained with."""

from keras_seqgrad.diagnostics.advise import Advice, advise
from keras_seqgrad.diagnostics.boundary_gradients import (
    BoundaryGradients,
    boundary_gradients,
)
from keras_seqgrad.diagnostics.compare import compare_gradients
from keras_seqgrad.diagnostics.comparison import GradientComparison
from keras_seqgrad.diagnostics.influence import influence_profile
from keras_seqgrad.diagnostics.jacobian import (
    JacobianSpectrum,
    state_jacobian_spectrum,
)
from keras_seqgrad.diagnostics.profile import (
    InfluenceProfile,
    suggest_truncation_length,
)
from keras_seqgrad.diagnostics.quality import GradientQuality

__all__ = [
    "Advice",
    "BoundaryGradients",
    "GradientComparison",
    "GradientQuality",
    "InfluenceProfile",
    "JacobianSpectrum",
    "advise",
    "boundary_gradients",
    "compare_gradients",
    "influence_profile",
    "state_jacobian_spectrum",
    "suggest_truncation_length",
]
