"""Check shapes, dtypes and types that annotations name, in every call; import before rdpjax."""

from __future__ import annotations

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# An int does for a float, as for every type checker.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))

install_import_hook(
    [f"rdpjax.{room}" for room in ("dpsgd", "models", "mechanisms", "stages")],
    f"{__name__}.check",
)
