#!/bin/sh
# A queue of this host for tests, in a folder: `queue.sh DIR submit [--word …] SCRIPT`, `queue.sh DIR status`, `queue.sh DIR stop JOB`,
# `queue.sh DIR end JOB WORD`: ends a job and gives its state that word; the word REQUEUED runs it again.
# Each job has a folder, DIR/<number>. While there is a file DIR/hold, jobs wait; while there is a file DIR/silent, the queue answers nothing.
set -u
dir=$1
command=$2
shift 2
case $command in
submit)
    n=1
    until mkdir "$dir/$n" 2>/dev/null; do n=$((n + 1)); done
    echo WAITS >"$dir/$n/state"
    echo "$*" >"$dir/$n/words"
    for script in "$@"; do :; done
    setsid "$0" "$dir" run "$n" "$script" </dev/null >/dev/null 2>&1 &
    echo "Job <$n> is submitted"
    ;;
run)
    while :; do
        while [ -e "$dir/hold" ] && [ ! -e "$dir/$1/reason" ]; do sleep 0.02; done
        code=-
        if [ ! -e "$dir/$1/reason" ]; then
            setsid sh "$2" &
            echo $! >"$dir/$1/.pid" && mv "$dir/$1/.pid" "$dir/$1/pid"
            echo RUNS >"$dir/$1/state"
            wait
            # What the job has left running ends with it.
            kill -KILL "-$(cat "$dir/$1/pid")" 2>/dev/null
            code=$(cat "$(dirname "$2")/ended" 2>/dev/null)
            rm "$dir/$1/pid"
        fi
        word=$(cat "$dir/$1/reason" 2>/dev/null)
        rm -f "$dir/$1/reason"
        case $word-$code in
        REQUEUED-*) echo WAITS >"$dir/$1/state" && continue ;;
        -0) word=DONE ;;
        -*) word=FAILED ;;
        esac
        echo "$word" >"$dir/$1/state"
        exit
    done
    ;;
status)
    if [ -e "$dir/silent" ]; then
        echo "no answer" >&2
        exit 1
    fi
    for job in "$dir"/*/; do
        [ -e "$job/state" ] && echo "$(basename "$job") $(cat "$job/state")"
    done
    exit 0
    ;;
stop)
    kill -TERM "-$(cat "$dir/$1/pid")"
    ;;
end)
    echo "$2" >"$dir/$1/.reason" && mv "$dir/$1/.reason" "$dir/$1/reason"
    pid=$(cat "$dir/$1/pid" 2>/dev/null) || exit 0
    kill -TERM "-$pid" 2>/dev/null
    i=0
    while [ -e "$dir/$1/pid" ] && [ $i -lt 250 ]; do sleep 0.02 && i=$((i + 1)); done
    kill -KILL "-$pid" 2>/dev/null
    exit 0
    ;;
esac
