"""`python -m toolkit` is the console script `toolkit`."""

import sys

from toolkit.cli import main

sys.exit(main())
