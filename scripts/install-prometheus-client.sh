#!/usr/bin/env bash
# install-prometheus-client.sh: `prometheus_client`, whose parser a test reads figures with. Prints the path of its Python.
exec "$(dirname "$0")/python-part.sh" prometheus-client python
