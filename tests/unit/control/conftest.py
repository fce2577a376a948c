import sys
from pathlib import Path

# imaginary_cluster is a helper beside the tests, which are no package.
sys.path.insert(0, str(Path(__file__).parent))
