"""What Streamlit runs, from the top, each time that somebody looks or clicks."""

import sys
from pathlib import Path

import msgspec

from squall.dashboards.app import show
from squall.dashboards.service import Service

spans = Path(sys.argv[3]) if len(sys.argv) > 3 else None
show(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Service | None), spans)
