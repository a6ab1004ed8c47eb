"""How the pages become a site: ``tox -m docs``."""

from zexec import __version__

project = "zexec"
author = "the zexec developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"zexec {version}"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # they are in the signatures
myst_heading_anchors = 3
nitpicky = False
