#!/usr/bin/env bash
# A slice in a cluster of Google Kubernetes Engine, through xpk (pip install xpk; tried: 1.16).
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage="usage: gke.sh [--dry-run] COMMAND
  create         the cluster, with one slice in it
  run [FLAGS]    copy this folder into an image, and start segtad_jax.main in it on all hosts
  status         of the job
  logs           follow the log of process 0
  stop           the job
  delete         the cluster"

command_and_rest "$@"
set -- "${rest[@]}"
[[ $command == run || $# == 0 ]] || die "$usage"
settings PROJECT ZONE CLUSTER

where=(--cluster="$CLUSTER" --project="$PROJECT" --zone="$ZONE")

case $command in
create)
  settings ACCELERATOR_TYPE SPOT
  if [[ $SPOT == yes ]]; then capacity=--spot; else capacity=--on-demand; fi
  run xpk cluster create "${where[@]}" --tpu-type="$ACCELERATOR_TYPE" --num-slices=1 "$capacity"
  ;;
run)
  settings ACCELERATOR_TYPE WORKLOAD ATTEMPTS CONFIG DATA_DIR WORKDIR
  main_flags "$@"
  install="pip install --quiet --root-user-action=ignore --constraint=constraints.txt --editable .[tpu]"
  # 75 and 76 say that the same command goes on; 1 is an error, and stays one.
  run xpk workload create "${where[@]}" --workload="$WORKLOAD" --tpu-type="$ACCELERATOR_TYPE" \
    --base-docker-image=python:3.12 --script-dir="$project" \
    --max-restarts="$ATTEMPTS" --restart-on-exit-codes=75,76 \
    --termination-grace-period-seconds=120 \
    --command="$install && exec python -m segtad_jax.main $(quoted "${flags[@]}")"
  ;;
status)
  settings WORKLOAD
  run xpk workload list "${where[@]}" --filter-by-job="$WORKLOAD"
  ;;
logs)
  settings WORKLOAD
  selector=jobset.sigs.k8s.io/jobset-name=$WORKLOAD,batch.kubernetes.io/job-completion-index=0
  run kubectl logs --follow --all-containers --selector="$selector"
  ;;
stop)
  settings WORKLOAD
  run xpk workload delete "${where[@]}" --workload="$WORKLOAD"
  ;;
delete)
  run xpk cluster delete "${where[@]}"
  ;;
*)
  die "$usage"
  ;;
esac
