# shellcheck shell=bash disable=SC2034
# A TPU slice, or several that train as one, by gcloud: its state, making and deleting it, reaching its workers. Part of
# run_tpu.sh, whose variables these functions read: NAME, WHERE (zone and project), TYPE, RUNTIME, QUEUED, SLICES, SPOT,
# CREATE_FLAGS, SSH_FLAGS, DRY and SCRATCH.

# Google's software version for JAX on a type: https://cloud.google.com/tpu/docs/runtimes
runtime_of() {
  case $1 in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v4-* | v3-* | v2-*) echo tpu-ubuntu2204-base ;;
    v5e-*) fail "--accelerator_type=$1: Google's name for it is v5litepod-${1#v5e-}" ;;
    *) fail "--accelerator_type=$1: no software version is known for it; give --runtime_version=" ;;
  esac
}

tpus() { # every call of gcloud; shown instead under --dry_run, quoted for a shell
  local word
  if [ -n "$DRY" ]; then
    printf 'gcloud compute tpus' >&3
    for word in "$@"; do
      is "$word" '^[-A-Za-z0-9_./:=,]+$' || word="'${word//\'/\'\\\'\'}'"
      printf ' %s' "$word" >&3
    done
    printf '\n' >&3
  else
    gcloud compute tpus "$@"
  fi
}

describe() { # KIND NAME FIELDS: their values, tabs between, or the word missing
  tpus "$1" describe "$2" ${WHERE[@]+"${WHERE[@]}"} --format="value($3)" 2>"$SCRATCH/error" && return
  grep -qiE 'NOT_FOUND|was not found' "$SCRATCH/error" && echo missing && return
  cat "$SCRATCH/error" >&2
  return 1
}

nodes() { # what Google calls the slices
  local index
  if [ -n "$NODES" ]; then
    echo "$NODES"
  elif [ "$SLICES" = 1 ]; then
    echo "$NAME"
  else
    for index in $(seq 0 $((SLICES - 1))); do echo "$NAME-$index"; done
  fi
}

# Sets STATE: missing, waiting, ready, lost (its machines are gone), unknown (Google could not be asked), or Google's
# word for what only the owner can mend; WORKERS to their number; and, of a queued resource that is there, QUEUED,
# SLICES and NODES (their names, which whoever asked for them chose). Under --dry_run a slice is missing until CREATED.
look() {
  local word rest node together=ready
  STATE=unknown WORKERS=0 NODES=""
  word=$(describe queued-resources "$NAME" \
    "state.state,tpu.nodeSpec[].nodeId,tpu.nodeSpec[0].multisliceParams.nodeCount") || return 0
  if [ -n "$DRY" ]; then
    if [ -n "$CREATED" ]; then word=ACTIVE; else word=missing; fi
  elif [ "$word" != missing ]; then # say `ACTIVE pod-0;pod-1 2`; the names come when the slices do
    QUEUED=1
    rest=${word#*$'\t'} word=${word%%$'\t'*}
    if is "${rest#*$'\t'}" '^[0-9]+$'; then SLICES=${rest#*$'\t'}; fi
    NODES=$(tr ';' ' ' <<<"${rest%%$'\t'*}")
    if [ -n "$NODES" ]; then SLICES=$(wc -w <<<"$NODES" | tr -d ' '); fi
  fi
  case $word in
    ACTIVE) ;;
    missing) if [ -n "$QUEUED" ]; then STATE=missing && return; fi ;;
    SUSPENDED) STATE=lost && return ;;
    CREATING | ACCEPTED | WAITING_FOR_RESOURCES | PROVISIONING | SUSPENDING | DELETING) STATE=waiting && return ;;
    *) STATE=$word && return ;;
  esac
  for node in $(nodes); do
    word=$(describe tpu-vm "$node" "state,networkEndpoints.len(),acceleratorType") || return 0
    if [ -n "$DRY" ]; then
      if [ -n "$CREATED" ]; then word=$'READY\t0\t'; else word=missing; fi
    fi
    rest=${word#*$'\t'} word=${word%%$'\t'*}
    case $word in
      READY)
        WORKERS=$((WORKERS + ${rest%%$'\t'*}))
        rest=${rest#*$'\t'} rest=${rest##*/}
        [ -z "$TYPE" ] || [ -z "$rest" ] || [ "$rest" = "$TYPE" ] ||
          fail "'$NAME' is there already and is a $rest, not a $TYPE: choose another NAME, or: run_tpu.sh down $NAME"
        ;;
      missing)
        if [ -n "$QUEUED" ]; then STATE=lost; else STATE=missing; fi
        return
        ;;
      PREEMPTED | TERMINATED) STATE=lost && return ;;
      CREATING | STARTING | RESTARTING | REIMAGING | REPAIRING | UNHIDING | DELETING) together=waiting ;;
      *) STATE=$word && return ;;
    esac
  done
  STATE=$together
}

create() {
  local kind=tpu-vm flags
  if [ -n "$QUEUED" ]; then
    kind=queued-resources
    flags=("--accelerator-type=$TYPE" "--runtime-version=$RUNTIME")
    if [ "$SLICES" = 1 ]; then flags+=("--node-id=$NAME"); else flags+=("--node-count=$SLICES" "--node-prefix=$NAME"); fi
  else
    flags=("--accelerator-type=$TYPE" "--version=$RUNTIME")
  fi
  tpus $kind create "$NAME" ${WHERE[@]+"${WHERE[@]}"} "${flags[@]}" ${SPOT:+--spot} \
    ${CREATE_FLAGS[@]+"${CREATE_FLAGS[@]}"}
}

destroy() {
  if [ -n "$QUEUED" ]; then
    tpus queued-resources delete "$NAME" ${WHERE[@]+"${WHERE[@]}"} --force --quiet
  else
    tpus tpu-vm delete "$NAME" ${WHERE[@]+"${WHERE[@]}"} --quiet
  fi
}

reach() { # VERB WHO WORDS: ssh or scp to worker 0 of the first slice (0) or to every one (all)
  local verb=$1 who=$2 kind=tpu-vm node=""
  shift 2
  if [ -n "$QUEUED" ]; then kind=queued-resources node="--node=$who"; fi
  # A machine that is gone says no goodbye: without these, ssh would wait for it for ever.
  tpus $kind "$verb" "$@" ${node:+"$node"} "--worker=$who" ${WHERE[@]+"${WHERE[@]}"} --quiet \
    "--$verb-flag=-oServerAliveInterval=15" "--$verb-flag=-oServerAliveCountMax=8" ${SSH_FLAGS[@]+"${SSH_FLAGS[@]}"} </dev/null
}

# everywhere ANSWER COMMAND: on all workers, each of which must answer with a line `flanx-ANSWER ...`: gcloud leaves out
# what it cannot reach, and does not always say so. The answers are kept in $SCRATCH/answers, the rest is shown.
everywhere() {
  local answered failed=""
  reach ssh all "$NAME" "--command=$2" >"$SCRATCH/told" || failed=1
  [ -z "$DRY" ] || return 0
  grep "^flanx-$1 " "$SCRATCH/told" >"$SCRATCH/answers" || true
  grep -v "^flanx-" "$SCRATCH/told" || true
  # Counted by name, for gcloud may have asked one twice.
  answered=$(cut -d' ' -f2 "$SCRATCH/answers" | sort -u | wc -l | tr -d ' ')
  [ "$answered" -ge "$WORKERS" ] || { say "$answered of $WORKERS workers answered (flanx-$1)" && return 1; }
  [ -z "$failed" ]
}
