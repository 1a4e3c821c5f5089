#!/usr/bin/env bash
# Trains one adapter after another, each from nothing on the same data for the same steps, and writes one table of them.
#   --stage N         first stage to run (default 0); 0 to 5 are those of run.sh, 6 is the sweep
#   --stop-stage N    last stage to run (default 6)
#   --sweep FILE      the cells, what they share, their budget (default sweeps/adapters.yaml)
#   --recipe NAME     method of all cells (default asr): a file in recipes/
#   --exp DIR         folder of the sweep (default exp/sweep-RECIPE); a folder in it for each cell
#   --steps N         optimiser steps of every cell (default: the sweep's own)
#   --minutes N       training time of every cell at most (default: the sweep's own; 0 is no limit)
#   --utterances N    test utterances that every cell answers, under all prompts (default 16)
#   --warm DIR        warm start of the reference row (default exp/demo-warm_start), trained if it is not there
#                     (`none`: without that row)
#   --warm-minutes N  time for the warm start (default 7)
#   --jobs N          cells side by side (default 1: side by side they disturb each other's times)
#   --only A,B        run these cells alone
#   --conf FILE       corpus and sizes (default mini/conf/demo); a file in egs/
# What follows the options goes to every stage and cell as Hydra overrides, e.g. decode.systems=[speech,deaf]
# Interrupt it when you like: the same command goes on from there. Exit status 1: a cell failed; the table shows it.

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=6 sweep=sweeps/adapters.yaml recipe=asr exp='' steps='' minutes='' utterances=16
warm=exp/demo-warm_start warm_minutes=7 jobs=1 only='' conf=mini/conf/demo
. ../../tools/parse_options.sh
exp=${exp:-exp/sweep-$recipe}
asked=imitate.test_utterances=$utterances
. ./path.sh

((stage > 4)) || ./run.sh --stage "$stage" --stop-stage "$((stop_stage < 4 ? stop_stage : 4))" \
  --recipe "$recipe" --conf "$conf" "$asked" "$@"
# The demonstration's warm start serves too, whatever its own test set was.
[[ $warm == none || -e $warm/checkpoint/done ]] || run 5 "warm start: recognise the LLM's tokens" \
  toolkit train recipes=warm_start "egs=$conf" "exp_dir=$warm" "train.max_minutes=$warm_minutes" "$@"
init=none
[[ $warm == none ]] || init=$warm/checkpoint
run 6 "train, measure, decode and score every cell" \
  toolkit sweep "$sweep" --exp "$exp" --warm "$init" --jobs "$jobs" --only "$only" \
  ${steps:+--steps "$steps"} ${minutes:+--minutes "$minutes"} "recipes=$recipe" "egs=$conf" "$asked" "$@"
