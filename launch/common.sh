#!/usr/bin/env bash
# Sourced by the scripts beside it: settings, and `run`, through which every command goes that
# reaches beyond this machine. Under --dry-run it prints them, ready to be pasted.
# shellcheck disable=SC2034 # what looks unused is for the scripts that source this
set -euo pipefail

launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(dirname "$launch")
dry_run=
exec 3>&1 # where dry runs print, also from within $(...)

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# Takes --dry-run off the arguments of a script; what is left of them goes to `rest`.
dry_run_and_rest() {
  if [[ ${1:-} == --dry-run ]]; then
    dry_run=yes
    shift
  fi
  rest=("$@")
}

# The same, and takes off the command, which must be there.
command_and_rest() {
  dry_run_and_rest "$@"
  command=${rest[0]:-}
  [[ $command ]] || die "${usage:?}"
  rest=("${rest[@]:1}")
}

# The words of a command, quoted where a shell needs it.
quoted() {
  local word words=()
  for word in "$@"; do
    [[ $word =~ ^[[:alnum:]_./:=,@%+-]+$ ]] || word=${word@Q}
    words+=("$word")
  done
  echo "${words[*]}"
}

run() {
  if [[ $dry_run ]]; then quoted "$@" >&3; else "$@"; fi
}

# Reads launch/env, or the file $LAUNCH_ENV, and insists on the settings that are named.
settings() {
  local file=${LAUNCH_ENV:-$launch/env} name
  [[ -f $file ]] || die "there is no $file: copy env.example to it and fill it in"
  # shellcheck source=/dev/null
  source "$file"
  for name in "$@"; do
    [[ ${!name:-} ]] || die "$name is not set in $file; env.example says what it is"
  done
  [[ ! ${SPOT:-} || $SPOT =~ ^(yes|no)$ ]] || die "SPOT=$SPOT in $file: it can be yes or no"
}

# The flags of segtad_jax.main that all recipes share.
main_flags() {
  flags=(--distributed --config="$CONFIG" --workdir="$WORKDIR" --config.data.dir="$DATA_DIR" "$@")
}
