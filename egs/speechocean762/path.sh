# shellcheck shell=bash
# The environment of this recipe: the project's own virtual environment, if there is one.
[[ -x ../../.venv/bin/toolkit ]] && PATH=$(cd ../.. && pwd)/.venv/bin:$PATH
export PATH PYTHONUNBUFFERED=1
