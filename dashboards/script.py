"""What Streamlit runs, from the top, each time that somebody looks or clicks."""

import sys
from pathlib import Path

from squall.dashboards.app import show

show(*map(Path, sys.argv[1:]))
