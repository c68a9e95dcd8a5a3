"""MACE foundation models, charge-blind, by mace-torch's own loader."""

import os
import pickle
import warnings

from mlipkit.files import InputError
from mlipkit.models.mace import MACEPotential

NAMES = {
    "mace-mp-0-small": "small",
    "mace-mp-0-medium": "medium",
    "mace-mp-0-large": "large",
    "mace-mpa-0-medium": "medium-mpa-0",
    "mace-omat-0-small": "small-omat-0",
    "mace-omat-0-medium": "medium-omat-0",
    "mace-matpes-pbe-0": "mace-matpes-pbe-0",
}
ACADEMIC = "mace-omat-0-small", "mace-omat-0-medium", "mace-matpes-pbe-0"  # the others: MIT
UNPICKLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def load_foundation(name):
    """Download (once, into mace-torch's cache) and load a foundation model.

    mace-torch unpickles its own published files, from its own release pages over https; nothing
    else is loaded so.

    Raises
    ------
    InputError
        When there is no such model, or it cannot be downloaded: then the message says where to put
        the file.

    Warns
    -----
    UserWarning
        When the model's licence does not permit commercial use.
    """
    from mlipkit.models.potential import building

    if name not in NAMES:
        raise InputError(
            f"load_model: there is no foundation model {name!r}; there is {', '.join(NAMES)}"
        )
    if name in ACADEMIC:
        warnings.warn(
            f"{name} is under the Academic Software License (https://github.com/gabor1/ASL), "
            "which does not permit commercial "
            "use; by using it you accept that",
            stacklevel=3,
        )
    before = os.environ.get(UNPICKLE)
    try:
        with building():
            from mace.calculators import mace_mp
            from mace.calculators.foundations_models import mace_mp_urls
            from mace.tools.utils import get_cache_dir

            url = mace_mp_urls[NAMES[name]]
            os.environ[UNPICKLE] = "1"
            model = mace_mp(
                NAMES[name], device="cpu", default_dtype="float32", return_raw_model=True
            )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as reason:
        file = "".join(c for c in url.rsplit("/", 1)[1] if c.isalnum() or c == "_")
        kept = f"{get_cache_dir()}/{file}"
        if os.path.exists(kept):
            raise InputError(
                f"{kept}: is no MACE model, or a damaged one ({type(reason).__name__}); remove "
                "it, and it is fetched again "
                f"from {url}"
            ) from None
        raise InputError(
            f"{name} cannot be downloaded ({reason.__cause__ or reason}); fetch {url} where there "
            "is a network and put it "
            f"here: {kept}"
        ) from None
    finally:
        # mace-torch makes torch.load unpickle anything, in the whole process: for its own file,
        # then never again
        os.environ.pop(UNPICKLE, None) if before is None else os.environ.update({UNPICKLE: before})
    return MACEPotential.plain(model)
