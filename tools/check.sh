#!/usr/bin/env bash
# Everything that CI checks, in order; stops at the first failure.
#   --fast        without the types (mypy, the slowest but the tests)
#   --no-tests    without the tests

set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
[[ -x .venv/bin/ruff ]] && PATH=$PWD/.venv/bin:$PATH

types=yes tests=yes
for option; do
  case $option in
    --fast) types=no ;;
    --no-tests) tests=no ;;
    --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' tools/check.sh; exit 0 ;;
    *) echo "tools/check.sh: unknown option $option (try --help)" >&2; exit 2 ;;
  esac
done

step() {
  local title=$1
  shift
  echo "== $title"
  "$@" || { echo "tools/check.sh: FAILED at: $title" >&2; exit 1; }
}

step "lint (ruff check)" ruff check .
step "format (ruff format)" ruff format --check .
[[ $types = no ]] || step "types (mypy)" mypy
step "shell scripts (shellcheck)" find . \( -name .venv -o -name data -o -name exp \) -prune -o \
  \( -name '*.sh' -o -path './.ci/run' \) -exec shellcheck --external-sources --source-path=SCRIPTDIR {} +
[[ $tests = no ]] || step "tests (pytest)" \
  pytest --numprocesses auto --maxprocesses 4 --dist loadfile  # a file's fixtures are made once
echo "tools/check.sh: all passed"
