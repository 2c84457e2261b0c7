# shellcheck shell=bash disable=SC2034
# What is seen of a run from outside the slice: whether it is alive, its log, its end. Part of run_tpu.sh, whose variables
# these functions read: NAME, DRY, SCRATCH, WORKER, POLL, GRACE, TRIES, PREEMPTED and, of tpu_slice.sh, STATE.

probe() { # what each worker does, in $SCRATCH/answers
  everywhere probe "$WORKER probe 2>/dev/null || echo flanx-probe \$(hostname) idle"
}

persist() { # TIMES COMMAND: again until it works; 1 where the slice is lost, or it never does
  local times=$1
  shift
  until "$@"; do
    times=$((times - 1))
    look
    if [ "$STATE" != ready ] && [ "$STATE" != unknown ] || [ "$times" -le 0 ]; then return 1; fi
    say "the connection was lost; what runs on $NAME goes on; trying again"
    sleep "$POLL"
  done
}

follow() { # WHERE: streams the log from there to the run's end; 1 where the slice is lost before
  local before
  echo "$1" >"$SCRATCH/place"
  while before=$(cat "$SCRATCH/place") && ! persist "$TRIES" stream; do
    # A run of weeks may lose more connections than that, one now and then.
    [ "$STATE" = ready ] && [ "$(cat "$SCRATCH/place")" != "$before" ] || return 1
  done
}

stream() { reach ssh 0 "$NAME" "--command=$WORKER follow $(cat "$SCRATCH/place")" | show; }

# Log lines come behind the number of the byte after them: what was shown before a connection broke, gcloud's own
# silent retries among them, is not shown again, and what was on its way is asked for once more.
show() {
  local line place
  place=$(cat "$SCRATCH/place")
  while IFS= read -r line; do
    is "$line" '^[0-9]+ ' || continue
    if ! is "$place" '^[0-9]+$' || [ "${line%% *}" -gt "$place" ]; then
      place=${line%% *}
      printf '%s\n' "${line#* }"
    fi
  done
  echo "$place" >"$SCRATCH/place"
}

rank() { # STATUS: of two workers' statuses the higher one tells what happened to the run
  case $1 in
    0 | killed) echo 0 ;;
    "$PREEMPTED") echo 1 ;;
    2) echo 5 ;; # a mistake in the arguments: the others died of what followed
    65) echo 4 ;;
    *) if [ "$1" -gt 128 ]; then echo 2; else echo 3; fi ;; # a signal
  esac
}

conclude() { # sets CODE to the run's exit status, STOPPED if somebody asked it to end
  local code
  STOPPED="" CODE=0
  persist 10 everywhere exit "$WORKER collect $GRACE" || return 1
  [ -z "$DRY" ] || return 0
  ! grep -q ' stopped$' "$SCRATCH/answers" || STOPPED=1
  while read -r _ _ code _; do
    [ "$code" != none ] || { say "no run was started there" && return 1; }
    if [ "$(rank "$code")" -gt "$(rank "$CODE")" ]; then CODE=$code; fi
  done <"$SCRATCH/answers"
  # A run that is asked to end before it can save dies of the signal; its last checkpoint holds.
  if [ -n "$STOPPED" ] && [ "$CODE" -gt 128 ]; then CODE=$PREEMPTED; fi
}
