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
#   --gpus N          processes of each training, one a GPU, started by torchrun (default 1)
# The stages are those of tools/stages.sh.
# What follows the options goes to every stage as Hydra overrides, e.g. ./run.sh --stage 6 train.steps=400

set -euo pipefail
cd "$(dirname "$0")"
stage=0 stop_stage=9 recipe=mtbi exp='' warm=exp/warm_start conf=librispeech/conf/librispeech corpus='' gpus=1
. ../../tools/parse_options.sh
. ./path.sh
. ../../tools/stages.sh
