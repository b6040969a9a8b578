"""What Streamlit runs, from the top, each time that somebody looks or clicks."""

import sys
from pathlib import Path

from squall.dashboards.app import show

show(Path(sys.argv[1]))
