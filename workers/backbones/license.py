"""Which weights an operator's license rule allows."""

from __future__ import annotations

from db.errors import RefusedConfigurationError
from workers.backbones import registry


def refuse_license(backbone: str, allowed: str) -> None:
    """Raise `RefusedConfigurationError` for non-commercial weights where `allowed`
    (REELVEC_LICENSE) is commercial.
    """
    spec = registry.get(backbone)
    if allowed == "commercial" and not spec.commercial:
        raise RefusedConfigurationError(
            f"{backbone}: its weights are {spec.license}, and REELVEC_LICENSE=commercial allows "
            "commercial use only; "
            f"choose among {', '.join(registry.DEFAULT_PERMISSIVE)}"
        )
