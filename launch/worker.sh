#!/usr/bin/env bash
# One host of a slice: tpu.sh calls this there. The run outlives the connection that starts it.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage="usage: worker.sh [--dry-run] COMMAND
  setup          install the project, with a Python that is new enough, in .venv
  start FLAGS    start segtad_jax.main in the background, unless it runs
  logs           its last lines, and more until it ends
  status         not started | running | exit STATUS | died"

command_and_rest "$@"
set -- "${rest[@]}"
cd "$project"

running() {
  [[ ! -f run.status && -f run.pid ]] || return
  # After a reboot the number may be another process's.
  [[ $(tr '\0' ' ' <"/proc/$(<run.pid)/cmdline") == *"worker.sh main "* ]]
} 2>/dev/null

case $command in
setup)
  uv=(python3 -m uv)
  run python3 -m pip install --quiet --user uv
  run "${uv[@]}" venv --quiet --allow-existing --python=3.12 .venv
  run "${uv[@]}" pip install --quiet --python=.venv/bin/python --constraint=constraints.txt \
    --editable '.[tpu]'
  ;;
start)
  if running; then exit; fi
  run rm -f run.status
  # Its own session: it is not hung up on when the connection ends.
  run setsid --fork launch/worker.sh main "$@"
  ;;
main) # of `start` alone
  exec >>run.log 2>&1 3>&1 </dev/null
  echo $$ >run.pid
  status=0
  .venv/bin/python -m segtad_jax.main "$@" || status=$?
  echo "$status" >run.status.new
  mv run.status.new run.status
  ;;
logs)
  run tail --lines=100 --follow --pid="$(<run.pid)" run.log
  ;;
status)
  if [[ -f run.status ]]; then
    echo "worker: exit $(<run.status)"
  elif running; then
    echo "worker: running"
  elif [[ -f run.pid ]]; then
    echo "worker: died"
  else
    echo "worker: not started"
  fi
  ;;
*)
  die "$usage"
  ;;
esac
