#!/usr/bin/env bash
# The demonstration: from nothing to a speech LLM and its table, on two CPU cores, without a question asked.
#   --recipe NAME     method: asr, blsp or mtbi (default mtbi)
#   --stage N         first stage of run.sh (default 0); --stop-stage N: the last (default 8)
#   --full true       train on everything and for longer (about two hours) instead of half an hour
# What follows the options goes to every stage as Hydra overrides.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=8 recipe=mtbi full=false
. ../../tools/parse_options.sh
. ./path.sh
sizes=(--conf mini/conf/demo --warm-minutes 7 --minutes 6) name=demo
[[ $full == true ]] && sizes=(--conf mini/conf/mini) name=mini

echo "Making a speech LLM by behaviour imitation: Whisper tiny.en + SmolLM2-135M-Instruct, recipe $recipe."
echo "Interrupt it when you like: the same command goes on from there."
./run.sh --stage "$stage" --stop-stage "$stop_stage" --recipe "$recipe" "${sizes[@]}" \
  --exp "exp/$name-$recipe" --warm "exp/$name-warm_start" "$@"
toolkit table "exp/$name-$recipe" --out "exp/$name-$recipe" --examples 3
echo "The same with training curves: $PWD/exp/$name-$recipe/report.html"
echo "Ask it something: toolkit answer --exp $PWD/exp/$name-$recipe FILE.wav --prompt 'Reply to this message: {speech}'"
