#!/usr/bin/env bash
# Keeps a run going on slices that come and go, until it is finished: asks for a slice, starts the
# run, and does so again after a preemption or a lost process. The run resumes from its last
# checkpoint. However it ends, the slice is deleted; interrupted from the keyboard, it is not.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage="usage: watch.sh [--dry-run] [flags of segtad_jax.main]
Exit status: 0 the run is finished, 1 it failed, or ATTEMPTS are used up, or there is no quota."

seconds=${POLL_SECONDS:-60} # between two looks
patience=10                 # looks without an answer from a slice before another is asked for
tried=0
unanswered=0

[[ ${1:-} != --help ]] || die "$usage"
dry_run_and_rest "$@"
set -- "${rest[@]}"
settings ATTEMPTS TPU_NAME PROJECT ZONE ACCELERATOR_TYPE RUNTIME_VERSION SPOT CONFIG DATA_DIR WORKDIR
[[ $ATTEMPTS =~ ^[1-9][0-9]*$ ]] || die "ATTEMPTS=$ATTEMPTS: it must be a number above 0"

say() {
  echo "$(date +%H:%M:%S) $*" >&2
}

tpu() {
  "$launch/tpu.sh" ${dry_run:+--dry-run} "$@"
}

finish() { # STATUS WHY
  say "$2"
  tpu delete || say "DELETE $TPU_NAME YOURSELF, it may cost money: tpu.sh delete"
  exit "$1"
}

spend() {
  tried=$((tried + 1))
  ((tried <= ATTEMPTS)) || finish 1 "all ATTEMPTS=$ATTEMPTS are used up"
  say "attempt $tried of $ATTEMPTS"
}

ask() {
  local answer
  spend
  if answer=$(tpu queue 2>&1); then return; fi
  echo "$answer" >&2
  if [[ ${answer,,} == *quota* ]]; then
    finish 1 "no quota for $ACCELERATOR_TYPE in $ZONE: ask for one, or use another zone or type"
  fi
}

start() {
  if ! { tpu sync && tpu run "$@"; }; then say "not all workers answer; trying again"; fi
}

# Acts on $workers, a line of each.
look() {
  local going_on='exit (75|76|1[0-9][0-9]|2[0-9][0-9])|died' # stopped, lost another, killed
  if grep -q '^worker: not ' <<<"$workers"; then
    start "$@"
  elif grep -q '^worker: running' <<<"$workers"; then
    : # those that lost another process end by themselves
  elif ! grep -qv '^worker: exit 0$' <<<"$workers"; then
    finish 0 "the run is finished: $WORKDIR"
  elif grep -qvE "^worker: (exit 0|$going_on)\$" <<<"$workers"; then
    tpu logs >&2 || true
    finish 1 "the run failed; the end of its log is above"
  else
    say "the run was stopped, or lost a process"
    spend
    start "$@"
  fi
}

if [[ $dry_run ]]; then
  for step in status queue status sync; do tpu "$step"; done
  tpu run "$@"
  tpu status
  tpu delete
  exit
fi
trap 'say "$TPU_NAME is left as it is, and may cost money: tpu.sh status, tpu.sh delete"; exit 130' INT

while true; do
  answered=yes
  status=$(tpu status) || answered=
  state=${status%%$'\n'*}
  workers=$(grep '^worker:' <<<"$status" || true)
  case $state in
  "") say "gcloud does not answer" ;; # a run that goes on is not disturbed by that
  MISSING) ask ;;
  ACTIVE | READY)
    if [[ ! $answered || ! $workers ]]; then
      unanswered=$((unanswered + 1))
      if ((unanswered >= patience)); then
        say "$TPU_NAME is there, but has not answered $patience times"
        unanswered=0
        tpu delete || true
      fi
    else
      unanswered=0
      look "$@"
    fi
    ;;
  SUSPENDED | SUSPENDING | FAILED | PREEMPTED | TERMINATED | STOPPED)
    say "$TPU_NAME is $state"
    tpu delete || true
    ;;
  *) ;; # it waits in the queue, or is being made or deleted
  esac
  sleep "$seconds"
done
