# root: dd if=/dev/zero of=swap bs=1M count=192 status=none; chmod 600 swap; mkswap swap >/dev/null; swapon swap
# Every limit is seen acting; those of disks in `disks`.
group() { rl inspect -f '{{.State.CgroupPath}}' "$1"; }
run() { rl run --rm --network none --rootfs bb "$@"; }
# value FILE OPTION…
value() { local file=$1; shift; run "$@" cat "/sys/fs/cgroup/$file"; }

# Memory: who takes more is killed, and that is told.
status=0
rl run --name o --network none --memory 20m --rootfs bb dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null || status=$?
same "killed" $status 137
same "why" "$(rl inspect -f '{{.State.OOMKilled}}' o)" true
has "event" "$(rl events --since 60s --until 0s --filter event=oom)" "container oom"
rl rm o >/dev/null
# Where a child is killed the rest goes on, and it is told at once.
rl run -d --name child --network none --memory 20m --rootfs bb \
    sh -c 'dd if=/dev/zero of=/dev/null bs=100M count=1; sleep 1000' >/dev/null
told() { rl events --since 60s --until 0s --filter event=oom --filter container=child | grep -q "container oom"; }
wait_for "the event" told
same "it goes on" "$(rl inspect -f '{{.State.OOMKilled}} {{.State.Status}}' child)" "true running"
rl kill child >/dev/null
same "it was told once" "$(rl events --since 60s --until 0s --filter event=oom --filter container=child | wc -l)" 1
same "why" "$(rl inspect -f '{{.State.OOMKilled}}' child)" true
rl rm -f child >/dev/null
check "what fits, fits" run --memory 200m dd if=/dev/zero of=/dev/null bs=10M count=1

# Memory and swap: together they are what may be taken, as Docker counts.
fits() { check "$*" run "$@" dd if=/dev/zero of=/dev/null bs=40M count=1; }
does_not_fit() { expect_fail 137 "" run "$@" dd if=/dev/zero of=/dev/null bs=40M count=1; }
does_not_fit --memory 20m --memory-swap 20m
does_not_fit --memory 20m --memory-swap 30m
fits --memory 20m --memory-swap 60m
fits --memory 20m --memory-swap=-1
fits --memory 30m
same "swap" "$(run --memory 20m --memory-swap 30m cat /sys/fs/cgroup/memory.swap.max)" 10485760

# A reservation: three share a slice, and what the third takes is taken from the one that has none.
systemctl --user set-property --runtime tight.slice MemoryMax=100M MemorySwapMax=0
mkdir files
for name in plain reserved; do
    dd if=/dev/zero of=files/$name bs=1M count=32 oflag=direct 2>/dev/null
    option=()
    [ $name = plain ] || option=(--memory-reservation 48m)
    rl run -d --name $name --network none --cgroup-parent tight.slice "${option[@]}" -v "$PWD/files:/files" --rootfs bb \
        sh -c "cat /files/$name >/dev/null; sleep 1000" >/dev/null
done
cached() { sed -n 's/^file //p' "$(group $1)/memory.stat"; }
is_read() { [ "$(cached $1)" -ge 33554432 ]; }
for name in plain reserved; do wait_for "it is read" is_read $name; done
check "the third fits" run --cgroup-parent tight.slice dd if=/dev/zero of=/dev/null bs=56M count=1
is_read reserved || fail "of 32 MiB reserved there are $(cached reserved) left"
[ "$(cached plain)" -le 25165824 ] || fail "$(cached plain) are left of what was not reserved"
rl rm -f plain reserved >/dev/null

same "any file" "$(value memory.high --cgroup-conf memory.high=16777216)" 16777216

# Tasks: a fork bomb stops.
bomb='i=1; while [ $i -lt 60 ]; do sleep 30 & i=$((i+1)); echo $i; done'
bombed=$(run --pids-limit 20 sh -c "$bomb" 2>&1 || true)
has "a fork bomb" "$bombed" "can't fork"
same "its tasks" "$(grep -xE '[0-9]+' <<<"$bombed" | tail -n 1)" 20
same "tasks by default" "$(run cat /sys/fs/cgroup/pids.max)" 2048
same "tasks without limit" "$(value pids.max --pids-limit=-1)" max
same "tasks by the file" "$(value pids.max --cgroup-conf pids.max=9)" 9

# Processors: half of one, within ten percent over five seconds.
rl run -d --name c --network none --cpus 0.5 --rootfs bb sh -c 'while :; do :; done' >/dev/null
used() { sed -n 's/^usage_usec //p' "$(group c)/cpu.stat"; }
# Never more; less only while the machine under the guest has other things to do.
half() {
    local before=$(used) began
    began=$(date +%s%N)
    sleep 5
    percent=$((($(used) - before) * 100000 / ($(date +%s%N) - began)))
    [ $percent -ge 45 ]
}
sleep 1
wait_for "half a processor" half
[ $percent -le 55 ] || fail "half a processor is $percent %"
shown=$(rl stats --no-stream --format '{{.CPUPerc}}' c)
[ "${shown%.*}" -ge 10 ] && [ "${shown%.*}" -le 60 ] || fail "stats shows $shown"

# Changed while it runs, and there after the next start.
check "update" rl update --cpus 0.2 --memory 32m --pids-limit 50 c
same "at once" "$(cat "$(group c)/cpu.max")" "20000 100000"
rl kill c >/dev/null
rl wait c >/dev/null
rl start c >/dev/null
same "later" "$(cat "$(group c)/memory.max") $(cat "$(group c)/pids.max")" "33554432 50"
same "inside" "$(rl exec c cat /sys/fs/cgroup/memory.max)" 33554432
# What it sees is its own to write, what holds is not.
rl exec c sh -c 'echo max >/sys/fs/cgroup/memory.max' 2>/dev/null || true
same "still" "$(cat "$(group c)/memory.max")" 33554432
rl rm -f c >/dev/null

same "the first processor" "$(run --cpuset-cpus 0 grep Cpus_allowed_list /proc/self/status | tr -d '\t')" Cpus_allowed_list:0
same "shares" "$(value cpu.weight --cpu-shares 1024)" 39
same "weight" "$(value cpu.weight --cpu-weight 200)" 200

# What cannot be applied is an error.
expect_fail 125 "--cpuset-cpus" run --cpuset-cpus 77 true
expect_fail 125 "the controller \`hugetlb\` is not delegated" run --hugetlb 2MB=64m true
expect_fail 125 "leave one of the two out" run --cgroups disabled --memory 20m true
expect_fail 125 "can be raised" run --oom-score-adj -500 true
same "raised" "$(run --oom-score-adj 500 cat /proc/self/oom_score_adj)" 500
