#!/bin/sh
# A node's process for tests: `node.sh exec <work folder>`. What it does is the `text` of its order.
work=$2
does=$(sed -n 's/^ *"text": "\([^"]*\)".*/\1/p' "$work/order.json")
report() {
    echo "$1" >>"$work/reports"
}
case $does in
make)
    report '{"event":"progress","step":1,"total":2,"values":[["loss",0.5]]}'
    echo '{"event":"warning","message":"a line that is printed is no report"}'
    report '{"event":"warning","message":"mind the gap"}'
    echo "threads $RAYON_NUM_THREADS" >"$work/out/file"
    ;;
refuse)
    report '{"event":"failed","exit_code":2,"message":"row 3 is broken"}'
    exit 2
    ;;
die)
    echo 'out of ideas' >&2
    exit 3
    ;;
killed)
    kill -KILL $$
    ;;
stop)
    trap 'echo 7 >"$work/checkpoints/step"; exit 130' TERM
    if [ -e "$work/checkpoints/step" ]; then
        echo done >"$work/out/file"
        exit 0
    fi
    report '{"event":"progress","step":1,"total":2,"values":[]}'
    while :; do sleep 0.02; done
    ;;
stubborn)
    trap '' TERM
    report '{"event":"progress","step":1,"total":2,"values":[]}'
    while :; do sleep 0.02; done
    ;;
session)
    setsid sleep 30 2>/dev/null &
    echo $! >"$work/out/file"
    ;;
freeze)
    kill -STOP $$
    exit 130
    ;;
child)
    sleep 600 &
    echo $! >"$work/out/file"
    ;;
esac
