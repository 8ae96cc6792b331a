"""What BROWSER is set to in tests: goes where it is sent, follows redirections, and shows nothing."""

import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=30) as page:
    page.read()
