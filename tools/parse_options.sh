# shellcheck shell=bash
# Kaldi-style options: source this after the defaults are set, and --name value sets $name.
# Options come first; what follows them (Hydra overrides such as train.steps=10) stays in "$@".
# --help prints the comment at the head of the script. Source it where the script is: it reads its own file.
while [[ $# -gt 0 ]]; do
  case $1 in
    --help | -h)
      sed -n '2,/^[^#]*$/s/^# \{0,1\}//p' "${0##*/}"
      exit 0 ;;
    --*=*)
      echo "$0: write '${1%%=*} ${1#*=}', not '$1'" >&2
      exit 2 ;;
    --*)
      OPTION=${1#--}
      OPTION=${OPTION//-/_}
      # A variable of the environment is no option, only what the script itself has set.
      [[ $OPTION =~ ^[a-z_]+$ && -n ${!OPTION+set} && ! $(declare -p "$OPTION") =~ ^declare\ -[a-z]*x ]] ||
        { echo "$0: unknown option $1 (try --help)" >&2; exit 2; }
      [[ $# -ge 2 ]] || { echo "$0: $1 needs a value" >&2; exit 2; }
      printf -v "$OPTION" %s "$2"
      shift 2 ;;
    *) break ;;
  esac
done
# shellcheck disable=SC2154  # the sourcing script sets stage and stop_stage
[[ "$stage $stop_stage" =~ ^(0|[1-9][0-9]*)\ (0|[1-9][0-9]*)$ ]] ||
  { echo "$0: --stage and --stop-stage are numbers" >&2; exit 2; }

# run N "what it does" command...    runs the command when stage <= N <= stop_stage; a failure stops the script
run() {
  local number=$1 title=$2
  shift 2
  ((stage <= number && number <= stop_stage)) || return 0
  echo "$(date '+%F %T') stage $number: $title" >&2
  "$@"
}
