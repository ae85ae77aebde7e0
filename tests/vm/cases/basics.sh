# What everybody does: a command in a container of each network, one that stays, and what is left of each.

image
quiet() { same "processes of rl that are left" "$(processes)" 0; }

same "the id inside" "$(rl run --rm --network none bb id -u)" 0
same "a status" "$(rl run --rm --network none --rootfs bb sh -c 'exit 7' || echo $?)" 7
has "the default network" "$(rl run --rm bb ip route)" default
same "what stays of --rm" "$(rl ps -aq)" ""
wait_for "the helpers' end" quiet

rl run -d --name one --network none bb sh -c 'trap "exit 5" TERM; echo begun; while :; do sleep 0.1; done' >/dev/null
wait_for "its log" grep -q begun <(rl logs one)
same "a command in it" "$(rl exec one sh -c 'echo $((6 * 7)); cat /proc/1/cmdline' | tr '\0' ' ' | head -n 1)" 42
has "the list" "$(rl ps)" one
check "stop" rl stop one
has "the list of all" "$(rl ps -a)" "Exited (5)"
check "removal" rl rm one
wait_for "the monitor's end" quiet

# A monitor that is killed takes its container with it.
rl run -d --name two --network none bb sleep 98765 >/dev/null
pid=$(rl inspect -f '{{.State.Pid}}' two)
monitor=$(ps -o ppid= -p "$pid" | tr -d ' ')
has "the monitor" "$(ps -o comm= -p "$monitor")" rl
kill -KILL "$monitor"
gone() { ! pgrep -f 'sleep 98765' && quiet; }
wait_for "the container's end" gone
same "what runs" "$(rl ps -q)" ""
check "removal" rl rm -f two
same "what is left" "$(rl ps -aq)" ""
