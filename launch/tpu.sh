#!/usr/bin/env bash
# A slice of TPU VMs, from your desk. README.md has the recipe, env.example the settings.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage="usage: tpu.sh [--dry-run] COMMAND
  create         the slice, at once or not at all
  queue          ask for the slice, and get it when there is one
  sync           copy the committed project to all workers and install it there
  run [FLAGS]    start segtad_jax.main on all workers, with more flags of its own
  logs           of worker 0: the last lines, and more until the run ends
  status         of the slice, then of the run on every worker
  delete         the slice, and the request for it"

command_and_rest "$@"
set -- "${rest[@]}"
[[ $command == run || $# == 0 ]] || die "$usage"
settings PROJECT ZONE TPU_NAME

where=(--project="$PROJECT" --zone="$ZONE")
archive=segtad_jax.tar.gz

on() { # WORKER COMMAND
  run gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${where[@]}" --worker="$1" --command="$2"
}

described() { # queued-resources|tpu-vm FIELD
  run gcloud compute tpus "$1" list "${where[@]}" --filter="name~/$TPU_NAME\$" --format="value($2)"
}

what_to_pay_for() {
  settings ACCELERATOR_TYPE RUNTIME_VERSION SPOT
  slice=("${where[@]}" --accelerator-type="$ACCELERATOR_TYPE")
  if [[ $SPOT == yes ]]; then slice+=(--spot); fi
}

case $command in
create)
  what_to_pay_for
  run gcloud compute tpus tpu-vm create "$TPU_NAME" "${slice[@]}" --version="$RUNTIME_VERSION"
  ;;
queue)
  what_to_pay_for
  run gcloud compute tpus queued-resources create "$TPU_NAME" --node-id="$TPU_NAME" \
    "${slice[@]}" --runtime-version="$RUNTIME_VERSION"
  ;;
sync)
  [[ ! $(git -C "$project" status --porcelain) ]] || echo "only what is committed is copied" >&2
  run git -C "$project" archive --format=tar.gz --output="$archive" HEAD
  run gcloud compute tpus tpu-vm scp "$project/$archive" "$TPU_NAME:" "${where[@]}" --worker=all
  run rm "$project/$archive"
  on all "mkdir -p segtad_jax && tar -xzf $archive -C segtad_jax && segtad_jax/launch/worker.sh setup"
  ;;
run)
  settings CONFIG DATA_DIR WORKDIR
  main_flags "$@"
  on all "segtad_jax/launch/worker.sh start $(quoted "${flags[@]}")"
  ;;
logs)
  on 0 "segtad_jax/launch/worker.sh logs"
  ;;
status)
  state=$(described queued-resources state.state)
  [[ $state ]] || state=$(described tpu-vm state)
  if [[ ! $dry_run ]]; then echo "${state:-MISSING}"; fi
  if [[ $dry_run || $state =~ ^(ACTIVE|READY)$ ]]; then
    on all "segtad_jax/launch/worker.sh status || echo worker: not set up"
  fi
  ;;
delete)
  run gcloud compute tpus queued-resources delete "$TPU_NAME" "${where[@]}" --force --quiet ||
    run gcloud compute tpus tpu-vm delete "$TPU_NAME" "${where[@]}" --quiet
  ;;
*)
  die "$usage"
  ;;
esac
