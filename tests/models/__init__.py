"""Small random GGUF models of many architectures, adapters for them, and broken files made from them."""

from .architecture import Architecture
from .attention_models import ATTENTION_MODELS
from .hybrid_models import HYBRID_MODELS
from .writer import ARCHITECTURES, write_model

__all__ = ["ARCHITECTURES", "ATTENTION_MODELS", "HYBRID_MODELS", "Architecture", "write_model"]
