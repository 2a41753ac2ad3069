#!/bin/sh
# An environment for one rival: sh benchmarks/rivals/setup.sh NAME FOLDER [PYTHON]
# NAME is a folder here with requirements.txt. PYTHON (that of sglora-fed's own environment) lends the
# libraries that requirements.txt does not name, such as torch; the rival's own come first. Nothing is
# installed into PYTHON's environment.
set -eu
here=$(dirname "$0")
python=${3:-.venv/bin/python}
"$python" -m venv "$2/$1"
"$2/$1/bin/python" -m pip install --quiet --no-deps --ignore-installed -r "$here/$1/requirements.txt"
lent=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
own=$("$2/$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$lent" > "$own/lent.pth"
