import sys
from pathlib import Path

# labrun and faultlab are helpers beside tests, which are no package.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "scenario")]
