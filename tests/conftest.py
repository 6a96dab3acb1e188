"""Shapes and types of public signatures are checked at run time in every test."""

from jaxtyping import install_import_hook

CHECKED = [f"lawful.{part}" for part in ("physics", "laws", "networks", "evaluation")]

hook = install_import_hook(CHECKED, "beartype.beartype")
