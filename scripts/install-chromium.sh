#!/usr/bin/env bash
# install-chromium.sh: Chromium and its WebDriver, for the tests of the dashboard's page (`make browser`). Prints the path
# of the driver. Does nothing when they are there; otherwise it takes more than a minute.
set -euo pipefail
"$(dirname "$0")/debian-part.sh" chromium chromium >/dev/null
exec "$(dirname "$0")/debian-part.sh" chromium-driver chromedriver
