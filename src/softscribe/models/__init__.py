"""Networks that turn an HCQT into logits of pitches or pitch classes, and the folder in which a trained one is kept."""

from softscribe.models.folder import load_model, save_model
from softscribe.models.linear import Linear
from softscribe.models.mcnn import CONTEXT_FRAMES, RECEPTIVE_FIELD_FRAMES, Mcnn, has_fast_bfloat16
from softscribe.models.registry import MODELS, create_model

__all__ = [
    "CONTEXT_FRAMES",
    "MODELS",
    "RECEPTIVE_FIELD_FRAMES",
    "Linear",
    "Mcnn",
    "create_model",
    "has_fast_bfloat16",
    "load_model",
    "save_model",
]
