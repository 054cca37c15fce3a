"""The checks of the sheet beyond the base campaign, one file each; ``verify/registry.py`` lists them."""
