"""What trains networks: recipes, data, families, and the run itself."""

from pathlib import Path

# The recipes that come with the package, one TOML file each.
RECIPES = Path(__file__).parent / "recipes"
