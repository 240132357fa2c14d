"""pyctcdecode's interface on numbactc's beam search: `build_ctcdecoder` and what it builds.

    from numbactc.pyctcdecode import build_ctcdecoder      # was: from pyctcdecode import build_ctcdecoder

Hugging Face's `Wav2Vec2ProcessorWithLM` imports pyctcdecode by name. After

    import numbactc.pyctcdecode
    numbactc.pyctcdecode.stand_in()                        # before transformers is imported

it gets this package, needs no KenLM either, and works with NumPy 2.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from numbactc.pyctcdecode import alphabet, constants, decoder, language_model
from numbactc.pyctcdecode.alphabet import Alphabet
from numbactc.pyctcdecode.beams import OutputBeam, OutputBeamMPSafe
from numbactc.pyctcdecode.decoder import BeamSearchDecoderCTC, build_ctcdecoder
from numbactc.pyctcdecode.language_model import LanguageModel

__all__ = [
    "Alphabet",
    "BeamSearchDecoderCTC",
    "LanguageModel",
    "OutputBeam",
    "OutputBeamMPSafe",
    "build_ctcdecoder",
    "stand_in",
]


def stand_in() -> None:
    """From now on `import pyctcdecode` gives this package, in this process.

    Where kenlm is not installed, an empty module is found under that name: transformers looks whether it is there
    before it loads a processor, and never calls it. Call this before transformers is imported, which looks once.

    Raises:
        RuntimeError: another pyctcdecode has been imported already.
    """
    ours = sys.modules[__name__]
    if sys.modules.get("pyctcdecode", ours) is not ours:
        raise RuntimeError("stand_in must be called before pyctcdecode is imported")
    sys.modules["pyctcdecode"] = ours
    for module in (alphabet, constants, decoder, language_model):
        sys.modules[f"pyctcdecode.{module.__name__.rpartition('.')[2]}"] = module
    if "kenlm" not in sys.modules and importlib.util.find_spec("kenlm") is None:
        empty = ModuleType("kenlm", "KenLM is not installed: numbactc.pyctcdecode reads ARPA files by itself.")
        empty.__spec__ = ModuleSpec("kenlm", None)
        sys.modules["kenlm"] = empty
