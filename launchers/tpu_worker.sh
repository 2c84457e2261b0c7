#!/usr/bin/env bash
# One TPU VM's side of run_tpu.sh, which copies it to ~/flanx-run on every worker and calls it over ssh:
#
#   setup        mounts what the run reads and writes, turns huge pages on, and installs flanx
#   start RUN    starts `flanx train`, out of ssh's reach; a RUN (name.restarts) that was started is not started again
#   follow FROM  prints its log until it ends, each line behind the number of the byte after it; from such a number,
#                from the run's `begin`, or from the last lines (`tail`)
#   collect S    waits at most S seconds for the end, and tells its exit status
#   probe, stop  which run it is and whether it runs; asks it to save and end
#
# Lines that begin with `flanx-` are answers for run_tpu.sh. Beside it lie `job.sh` (arguments and environment), `mounts`,
# `spec` (what pip installs), `key` (of that, so that the same thing is not installed twice) and `work`, the folder in
# which the run starts; and of the last run its name (`run`), `keeper` (process number of `job`, which outlives flanx),
# `pid` (flanx's own), `status`, `stopped` (somebody asked for that) and `log`, in which it began at byte `begin`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

running() { [ -f keeper ] && [ ! -f status ] && kill -0 "$(cat keeper)" 2>/dev/null; }

size_of_log() { if [ -f log ]; then wc -c <log | tr -d ' '; else echo 0; fi; }

install_gcsfuse() { # as https://cloud.google.com/storage/docs/cloud-storage-fuse/install says
  local repository
  repository="gcsfuse-$(lsb_release -c -s)"
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
  echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt $repository main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -qq update
  sudo apt-get -qq install -y gcsfuse >/dev/null
}

mount_one() {
  local source=$1 target=$2 bucket folder
  if mountpoint -q "$target"; then
    return
  fi
  sudo umount -l "$target" 2>/dev/null || true # of a mount that broke
  sudo mkdir -p "$target"
  case $source in
    gs://*)
      command -v gcsfuse >/dev/null || install_gcsfuse
      sudo chown "$(id -un)" "$target"
      source=${source#gs://}
      bucket=${source%%/*}
      folder=${source#"$bucket"}
      folder=${folder#/}
      # Nothing remembered of names: what one worker has just written, the others must find.
      gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 \
        ${folder:+"--only-dir=$folder"} "$bucket" "$target" >&2
      ;;
    nfs://*)
      if ! command -v mount.nfs >/dev/null; then
        sudo apt-get -qq update
        sudo apt-get -qq install -y nfs-common >/dev/null
      fi
      source=${source#nfs://}
      sudo mount -t nfs "${source%%/*}:/${source#*/}" "$target"
      ;;
  esac
}

setup() {
  local source target
  while read -r source target; do
    mount_one "$source" "$target" </dev/null
  done <mounts
  # Without huge pages the TPU's runtime starts and ends slowly, and JAX says so.
  echo always | sudo tee /sys/kernel/mm/transparent_hugepage/enabled >/dev/null || true
  if ! cmp -s key installed; then
    rm -rf venv
    PATH=$HOME/.local/bin:$PATH
    # uv brings the Python that flanx wants; the VM images of Ubuntu 22.04 have 3.10.
    command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh >/dev/null
    uv venv --quiet --python 3.11 venv
    uv pip install --quiet --python venv/bin/python "$(cat spec)"
    cp key installed
  fi
  mkdir -p work
  echo "flanx-ready $(hostname)"
}

start() {
  local run=$1
  if [ "$(cat run 2>/dev/null)" != "$run" ]; then
    if running; then
      echo "$(hostname): another run is alive there ($(cat run))" >&2
      exit 1
    fi
    [ "${run##*.}" != 0 ] || rm -f stopped
    if [ ! -f stopped ]; then # as asked between two starts of the same run
      rm -f keeper pid status
      size_of_log >begin
      echo "$run" >run
      setsid nohup bash tpu_worker.sh job "$run" </dev/null >/dev/null 2>&1 &
      for _ in $(seq 100); do
        [ ! -f pid ] || break
        sleep 0.1
      done
      [ -f pid ] || { echo "$(hostname): flanx train did not start" >&2 && exit 1; }
    fi
  fi
  echo "flanx-started $(hostname)"
}

job() {
  local run=$1 args=() child code=0
  echo $$ >keeper
  cd work
  # shellcheck source=/dev/null
  . ../job.sh
  # In a group of its own, so that its children can be ended with it.
  setsid ../venv/bin/flanx train "${args[@]}" >>../log 2>&1 </dev/null &
  child=$!
  echo "$child" >../pid.new
  mv ../pid.new ../pid
  # A signal for both is flanx's to obey: this shell lives on to note the status.
  trap : TERM HUP INT
  wait "$child" || code=$?
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  kill -KILL -- "-$child" 2>/dev/null || true
  if [ "$(cat ../run)" = "$run" ]; then
    echo "$code" >../status.new
    mv ../status.new ../status
  fi
}

follow() {
  local at=$1 line
  touch log
  case $at in
    begin) at=$(cat begin) ;;
    tail) at=$(($(size_of_log) - $(tail -n 40 log | wc -c))) ;;
  esac
  echo # ends a line that a lost connection cut
  # Bytes are counted, and no line is shown before it is whole.
  LC_ALL=C
  tail -c "+$((at + 1))" -s 0.5 -f --pid="$(cat keeper)" log | while IFS= read -r line || [ -n "$line" ]; do
    at=$((at + ${#line} + 1))
    printf '%s %s\n' "$at" "$line"
  done
}

collect() {
  local seconds=$1 code note=""
  while running && [ "$seconds" -gt 0 ]; do
    seconds=$((seconds - 1))
    sleep 1
  done
  if running; then
    kill -KILL -- "-$(cat pid)" || true
    for _ in $(seq 20); do # its chips are free when it is gone
      running || break
      sleep 1
    done
    code=killed
  elif [ -f status ]; then
    code=$(cat status)
  elif [ -f keeper ]; then
    code=137 # ended with its machine, before it could be noted
  else
    code=none
  fi
  [ ! -f stopped ] || note=" stopped"
  echo "flanx-exit $(hostname) $code$note"
  case $code in
    0 | 75 | none) ;;
    *) tail -n 20 log | sed "s/^/$(hostname): /" ;;
  esac
}

probe() {
  local state=idle
  if running; then state="running $(cat run)"; elif [ -f run ]; then state="ended $(cat run)"; fi
  echo "flanx-probe $(hostname) $state"
}

stop() {
  touch stopped
  if running; then kill -TERM "$(cat pid)" || true; fi
  echo "flanx-stopping $(hostname)"
}

case ${1-} in
  setup | start | job | follow | collect | probe | stop) "$@" ;;
  *) echo "tpu_worker.sh: run_tpu.sh calls this" >&2 && exit 2 ;;
esac
