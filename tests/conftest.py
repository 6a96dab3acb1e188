"""Shapes and types of public signatures are checked at run time in every test."""

from jaxtyping import install_import_hook

PARTS = ("physics", "laws", "networks", "games", "evaluation")
CHECKED = [f"lawful.{part}" for part in PARTS]

hook = install_import_hook(CHECKED, "beartype.beartype")
