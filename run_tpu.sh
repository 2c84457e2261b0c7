#!/usr/bin/env bash
# Trains on Cloud TPUs from one command: brings a slice up, installs flanx on all its workers, starts `flanx train` on
# them, streams process 0's log, goes on after preemptions, and returns the run's exit status. `./run_tpu.sh --help`.
# launchers/tpu_slice.sh has what is asked of gcloud, launchers/tpu_run.sh what is seen of a run from here,
# launchers/tpu_worker.sh what happens on a worker.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PREEMPTED=75 # flanx train's "start me again"
POLL=${RUN_TPU_POLL_SECONDS:-30}
GRACE=${RUN_TPU_GRACE_SECONDS:-120} # for the other workers, once process 0 has ended
TRIES=120 # where Google or the slice cannot be reached, POLL seconds apart
YOUNG=${RUN_TPU_YOUNG_SECONDS:-600} # a run that dies of a signal sooner would again
WORKER="bash flanx-run/tpu_worker.sh"
# shellcheck source=launchers/tpu_slice.sh
. "$ROOT/launchers/tpu_slice.sh"
# shellcheck source=launchers/tpu_run.sh
. "$ROOT/launchers/tpu_run.sh"

usage() {
  cat <<'TEXT'
usage: run_tpu.sh COMMAND NAME [FLAGS] [-- ARGUMENTS OF flanx train]

commands:
  train    bring the slice NAME up, or use it as it is; install flanx; train; stream the log. A run that is alive is
           joined, so the same command comes back after a lost connection. A run that was preempted goes on, on a new
           slice where the old one is gone.
  logs     stream the log of the run on NAME until it ends, and return its exit status
  status   the slice's state, and which workers train
  stop     have the run save and end (exit status 75); the slice stays, unless a `train --delete_when_done` looks after it
  down     delete the slice NAME, and what is on its disks

flags, each as --flag=VALUE:
  --project, --zone         of Google Cloud; else PROJECT and ZONE, else what gcloud is configured with
  --accelerator_type=TYPE   v4-512, v5litepod-16, v5p-128, v6e-256, ...; else ACCELERATOR_TYPE; wanted for a new slice
  --runtime_version=NAME    TPU software version; else RUNTIME_VERSION, else Google's for JAX on that type
  --queued                  wait for the slice in Google's queue (a queued resource) instead of asking once
  --slices=N                N slices that train as one (multislice); always queued
  --spot                    cheaper, and may be taken away at any time
  --mount=SOURCE=FOLDER     on every worker, before the run: gs://bucket[/folder]=/mnt/x by gcsfuse, or
                            nfs://host/share=/mnt/x (Filestore); may be repeated
  --send=PATH               copy a file or folder to where the run starts, on every worker; may be repeated
  --env=NAME=VALUE          environment of the run; may be repeated
  --install=SPEC            what pip installs; without it the checkout that this script lies in, with changes to
                            tracked files (without git: flanx's own files there as they are)
  --max_restarts=N          after preemptions and lost machines; 100 unless given
  --delete_when_done        delete the slice when the run has ended, well or not
  --create_flag=FLAG        one more flag of `gcloud ... create`, say --create_flag=--network=my-net; may be repeated
  --ssh_flag=FLAG           one more flag of `gcloud ... ssh` and `scp`, say --ssh_flag=--internal-ip; may be repeated
  --dry_run                 print the gcloud commands of a run from nothing, and what each worker runs; do nothing

Exit status: flanx train's (0 done, 2 a mistake in its arguments, 65 diverged, 75 preempted or stopped, above 128 a
signal's); 1 where the slice or a worker failed; 2 for a mistake in these flags.

MODEL_DIR must lie in a file system that all workers share (--mount); docs/launching.md says which, and has the rest.

examples:
  ./run_tpu.sh train my-tpu --zone=us-central2-b --accelerator_type=v4-64 --mount=gs://my-bucket=/mnt/b -- \
      --gin_file=recipes/natural_instructions.gin --gin_file=models/t5_1_1/xl.gin --gin.MODEL_DIR=/mnt/b/ni \
      --gin.CACHE_DIR=/mnt/b/cache --gin.DATA_DIR=/mnt/b/natural-instructions --gin.VOCABULARY=/mnt/b/spiece.model
  ./run_tpu.sh train my-pod --accelerator_type=v5p-512 --slices=2 --spot --delete_when_done -- --gin_file=...
  ./run_tpu.sh down my-tpu --zone=us-central2-b
TEXT
}

say() { printf 'run_tpu.sh: %s\n' "$*" >&2; }
fail() { # MESSAGE [STATUS]
  say "$1"
  exit "${2:-2}"
}

# ---- what is asked for

COMMAND="" NAME="" PROJECT=${PROJECT-} ZONE=${ZONE-} TYPE=${ACCELERATOR_TYPE-} RUNTIME=${RUNTIME_VERSION-}
QUEUED="" SLICES=1 SPOT="" SPEC="" MAX_RESTARTS=100 DELETE="" DRY=""
MOUNTS=() SENT=() ENVIRONMENT=() CREATE_FLAGS=() SSH_FLAGS=() ARGUMENTS=()

read_command_line() {
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage && exit 0 ;;
      --) shift && ARGUMENTS=("$@") && break ;;
      --project=?*) PROJECT=${1#*=} ;;
      --zone=?*) ZONE=${1#*=} ;;
      --accelerator_type=?*) TYPE=${1#*=} ;;
      --runtime_version=?*) RUNTIME=${1#*=} ;;
      --queued) QUEUED=1 ;;
      --slices=?*) SLICES=${1#*=} ;;
      --spot) SPOT=1 ;;
      --mount=?*) MOUNTS+=("${1#*=}") ;;
      --send=?*) SENT+=("${1#*=}") ;;
      --env=?*) ENVIRONMENT+=("${1#*=}") ;;
      --install=?*) SPEC=${1#*=} ;;
      --max_restarts=?*) MAX_RESTARTS=${1#*=} ;;
      --delete_when_done) DELETE=1 ;;
      --create_flag=?*) CREATE_FLAGS+=("${1#*=}") ;;
      --ssh_flag=?*) SSH_FLAGS+=("${1#*=}") ;;
      --dry_run) DRY=1 ;;
      -*) fail "no flag '$1', or its value is missing; write --flag=VALUE, and flanx train's own after -- (--help has all)" ;;
      *)
        if [ -z "$COMMAND" ]; then COMMAND=$1; elif [ -z "$NAME" ]; then NAME=$1; else
          fail "'$1' is one word too many after COMMAND and NAME; flanx train's arguments stand after --"
        fi
        ;;
    esac
    shift
  done
}

check() {
  local word
  case $COMMAND in
    train | logs | status | stop | down) ;;
    "") usage >&2 && exit 2 ;;
    *) fail "no command '$COMMAND': train, logs, status, stop or down" ;;
  esac
  is "$NAME" '^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$' ||
    fail "NAME is '$NAME': give a slice's name of lower-case letters, digits and dashes, a letter first"
  is "$SLICES" '^[1-9][0-9]*$' || fail "--slices=$SLICES: give a number, 1 or more"
  is "$MAX_RESTARTS" '^[0-9]+$' || fail "--max_restarts=$MAX_RESTARTS: give a number"
  [ "$SLICES" = 1 ] || QUEUED=1
  [ "$COMMAND" = train ] || [ "${#ARGUMENTS[@]}" = 0 ] || fail "$COMMAND takes no arguments after --"
  [ "$COMMAND" != train ] || [ "${#ARGUMENTS[@]}" != 0 ] ||
    fail "say what to train after --, for instance: -- --gin_file=quickstart.gin --gin.MODEL_DIR=/mnt/b/quickstart"
  for word in ${MOUNTS[@]+"${MOUNTS[@]}"}; do
    is "$word" '^(gs://[^ =]+|nfs://[^ =/]+/[^ =]+)=/[^ =]+$' ||
      fail "--mount=$word: write gs://bucket=/mnt/x or nfs://host/share=/mnt/x"
  done
  for word in ${SENT[@]+"${SENT[@]}"}; do
    [ -e "$word" ] || fail "--send=$word: no such file or folder here"
  done
  for word in ${ENVIRONMENT[@]+"${ENVIRONMENT[@]}"}; do
    is "$word" '^[A-Za-z_][A-Za-z0-9_]*=' || fail "--env=$word: write NAME=VALUE"
  done
  for word in ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}; do
    is "$word" '^--gin\.(MODEL_DIR|CACHE_DIR)=.?gs://' &&
      fail "$word: flanx wants a folder there; mount the bucket (--mount=gs://bucket=/mnt/b) and give /mnt/b/..."
  done
  [ -n "$RUNTIME" ] || [ -z "$TYPE" ] || RUNTIME=$(runtime_of "$TYPE")
  WHERE=(${ZONE:+"--zone=$ZONE"} ${PROJECT:+"--project=$PROJECT"})
  [ -z "$DRY" ] || return 0
  command -v gcloud >/dev/null || fail "gcloud is not installed: https://cloud.google.com/sdk/docs/install" 1
  [ -n "$PROJECT" ] || configured project || fail "which project? --project=NAME, PROJECT, or 'gcloud config set project NAME'"
  [ -n "$ZONE" ] || configured compute/zone || fail "which zone? --zone=NAME, ZONE, or 'gcloud config set compute/zone NAME'"
}

configured() { gcloud config get-value "$1" 2>/dev/null | grep -q .; }

is() { [[ $1 =~ $2 ]]; }

# ---- one run

bring_up() { # waits for the slice; one that was not ready gets everything again
  local told="" seen="" tries=0
  while :; do
    look
    [ "$STATE" = ready ] || [ "$STATE" = unknown ] || INSTALLED=""
    case $STATE in
      ready) return ;;
      missing)
        [ -n "$TYPE" ] || fail "there is no slice '$NAME'${ZONE:+ in $ZONE}: give --accelerator_type=, say v4-8, to make one"
        say "creating $NAME ($TYPE)"
        if create; then CREATED=1; else patience "$RESTARTS"; fi
        ;;
      lost)
        [ -n "$TYPE" ] || fail "$NAME was preempted: give --accelerator_type= to have it made again" $PREEMPTED
        say "$NAME was preempted; a new one takes its place"
        destroy || patience "$RESTARTS"
        ;;
      waiting)
        [ -n "$told" ] || say "waiting for $NAME (Ctrl-C is safe: the same command waits on)"
        told=1
        sleep "$POLL"
        ;;
      unknown) patience "$RESTARTS$seen" ;;
      *) fail "$NAME is $STATE: 'gcloud compute tpus tpu-vm describe $NAME' (or queued-resources describe) may say why" 1 ;;
    esac
    [ "$STATE" = unknown ] || seen=1
  done
}

patience() { # 0 where nothing has gone well yet: that fails at once, but a run that was under way waits
  tries=$((tries + 1))
  [ "$1" != 0 ] || exit 1
  [ "$tries" -lt "$TRIES" ] || fail "$NAME cannot be had now: give the same command later, or wait in the queue (--queued)" $PREEMPTED
  sleep "$POLL"
}

SOURCE=(setup.py pyproject.toml README.md LICENSE flanx tasks mixtures gin launchers) # what an install needs

copy_source() { # TARGET
  local name
  for name in "${SOURCE[@]}"; do
    [ ! -e "$ROOT/$name" ] || cp -R "$ROOT/$name" "$1/"
  done
  find "$1" -name __pycache__ -type d -prune -exec rm -rf {} +
}

digest() { # FOLDER: of its files' names and contents, the same for the same source
  (cd "$1" && find . -type f | LC_ALL=C sort | tr '\n' '\0' | xargs -0 cksum | cksum)
}

pack() { # everything that a worker needs, in one file
  local stage=$SCRATCH/stage word tree=""
  rm -rf "$stage" && mkdir -p "$stage/work"
  cp "$ROOT/launchers/tpu_worker.sh" "$stage/"
  if [ -n "$SPEC" ]; then
    echo "$SPEC" >"$stage/spec"
    echo "$SPEC $$.$RANDOM" >"$stage/key" # what it names may have changed since
  else
    mkdir "$stage/source"
    if command -v git >/dev/null && git -C "$ROOT" rev-parse --git-dir >/dev/null 2>&1; then
      # A commit that holds the changes to tracked files, and touches nothing.
      tree=$(git -C "$ROOT" -c user.name=flanx -c user.email=flanx@localhost stash create) ||
        fail "git cannot take the changes in $ROOT along: commit them"
      git -C "$ROOT" archive "${tree:-HEAD}" | tar -x -C "$stage/source"
    else # an unpacked archive, say: what setup.py installs
      copy_source "$stage/source"
    fi
    echo './source[tpu]' >"$stage/spec"
    digest "$stage/source" >"$stage/key"
  fi
  for word in ${MOUNTS[@]+"${MOUNTS[@]}"}; do echo "${word%=/*} /${word##*=/}"; done >"$stage/mounts"
  for word in ${SENT[@]+"${SENT[@]}"}; do cp -R "$word" "$stage/work/"; done
  {
    for word in ${ENVIRONMENT[@]+"${ENVIRONMENT[@]}"}; do printf 'export %s=%q\n' "${word%%=*}" "${word#*=}"; done
    printf 'args=('
    printf ' %q' "${ARGUMENTS[@]}"
    printf ' )\n'
  } >"$stage/job.sh"
  tar -czf "$SCRATCH/flanx-run.tar.gz" -C "$stage" .
}

show_job() { # under --dry_run, what the workers are told
  local word
  echo "# in $SCRATCH/flanx-run.tar.gz: ${SPEC:-this checkout}, the run's arguments, and what --send names"
  for word in ${MOUNTS[@]+"${MOUNTS[@]}"}; do echo "# every worker: mounts ${word%=*} at /${word##*=/}"; done
  echo "# every worker: installs ${SPEC:-the checkout, with [tpu]}"
  printf '# every worker:'
  for word in ${ENVIRONMENT[@]+"${ENVIRONMENT[@]}"}; do printf ' %s=%q' "${word%%=*}" "${word#*=}"; done
  printf ' flanx train'
  printf ' %q' "${ARGUMENTS[@]}"
  printf '\n'
}

install() {
  if [ -n "$DRY" ]; then
    show_job >&3
  else
    pack || return 1
  fi
  say "installing flanx on all workers"
  reach scp all "$SCRATCH/flanx-run.tar.gz" "$NAME:flanx-run.tar.gz" || return 1
  everywhere ready "mkdir -p flanx-run && rm -rf flanx-run/source && tar -xzf flanx-run.tar.gz -C flanx-run && $WORKER setup"
}

attempt() { # from a slice that is ready to the run's end; CODE stays empty where something on the way failed
  local from=begin
  CODE="" STOPPED=""
  if [ -n "$INSTALLED" ]; then
    persist 3 everywhere ready "$WORKER setup" || return 0 # a machine that came up again has mounted nothing
  else
    persist 3 probe || return 0
    if [ -z "$DRY" ] && grep -q ' running ' "$SCRATCH/answers"; then
      RUN=$(awk '/ running / { print $4; exit }' "$SCRATCH/answers")
      from="tail"
      say "a run is alive on $NAME: joining it, as it was started (run_tpu.sh stop $NAME ends it)"
    else
      install || return 0
    fi
    INSTALLED=1
  fi
  RUN=${RUN:-$(date +%s)-$RANDOM.0} BEGUN=$SECONDS
  persist 3 everywhere started "$WORKER start $RUN" || return 0
  [ -n "$DRY" ] || say "training on $WORKERS workers; Ctrl-C leaves the run alone (run_tpu.sh stop $NAME ends it)"
  follow $from || return 0
  conclude || CODE=""
}

restartable() { # by what is known of the attempt's end
  [ "$CODE" != "$PREEMPTED" ] || return 0
  case $CODE in 2 | 3 | 65) return 1 ;; esac # a mistake, a plan that does not fit, diverged: it would end so again
  [ -z "$CODE" ] || [ "$CODE" -le 128 ] || [ $((SECONDS - BEGUN)) -lt "$YOUNG" ] || return 0
  look
  [ "$STATE" != ready ] && { [ -z "$CODE" ] || [ "$STATE" != unknown ]; }
}

train() {
  RESTARTS=0 INSTALLED="" CREATED="" RUN="" BEGUN=""
  while :; do
    bring_up
    attempt
    [ -z "$DRY" ] || finish 0
    [ "$CODE" != 0 ] || finish 0
    [ -z "$STOPPED" ] || { say "stopped on request; the same command goes on" && finish "$CODE"; }
    if ! restartable; then
      [ -n "$CODE" ] || [ -z "$BEGUN" ] || [ -z "$DELETE" ] || { say "how the run fares is not known: $NAME is not deleted" && DELETE=""; }
      finish "${CODE:-1}"
    fi
    RESTARTS=$((RESTARTS + 1))
    [ "$RESTARTS" -le "$MAX_RESTARTS" ] || { say "preempted $RESTARTS times (--max_restarts=$MAX_RESTARTS)" && finish $PREEMPTED; }
    # Whoever else looks after this run starts it under the same name, so that it is started once.
    [ -z "$RUN" ] || RUN=${RUN%.*}.$((${RUN##*.} + 1))
    say "preempted, or a machine was lost${CODE:+ (status $CODE)}; starting again ($RESTARTS)"
  done
}

finish() { # STATUS
  [ -z "$DELETE" ] || destroy || say "could not delete $NAME: it may still cost money"
  [ "$1" = 0 ] || say "flanx train ended with status $1"
  exit "$1"
}

on_the_slice() { # what the other commands want of it
  look
  [ "$STATE" != missing ] || fail "there is no slice '$NAME'${ZONE:+ in $ZONE}" 1
  [ "$STATE" = ready ] || [ "$COMMAND" = status ] || [ "$COMMAND" = down ] || fail "$NAME is not ready ($STATE)" 1
}

its_run() { # of the commands that ask for one
  on_the_slice
  probe || exit 1
  [ -n "$DRY" ] || grep -qE ' (running|ended) ' "$SCRATCH/answers" || fail "no run was started on $NAME" 1
}

read_command_line "$@"
check
exec 3>&1
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
trap 'say "left; what runs on $NAME goes on: run_tpu.sh logs $NAME"; exit 130' INT
CREATED=1

case $COMMAND in
  train) train ;;
  logs)
    its_run
    if ! follow tail || ! conclude; then fail "no log or no status from $NAME" 1; fi
    exit "$CODE"
    ;;
  status)
    on_the_slice
    [ -n "$DRY" ] || echo "$NAME: $STATE, $WORKERS workers"
    [ "$STATE" = ready ] || exit 0
    code=0
    probe || code=1
    [ -n "$DRY" ] || sed 's/^flanx-probe //' "$SCRATCH/answers"
    exit "$code"
    ;;
  stop)
    its_run
    if ! everywhere stopping "$WORKER stop" || ! follow tail || ! conclude; then
      fail "not every worker could be stopped" 1
    fi
    [ -n "$DRY" ] || say "the run ended with status $CODE"
    ;;
  down)
    on_the_slice
    destroy
    ;;
esac
