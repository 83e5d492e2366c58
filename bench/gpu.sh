#!/bin/sh
# Everything that has to be seen on a GPU, in one run; bench/gpu.sh --help says more.
root=$(dirname "$0")/..
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
exec "${PYTHON:-$python}" "$root/bench/gpu.py" "$@"
