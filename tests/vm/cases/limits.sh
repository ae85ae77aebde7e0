# Every limit is seen acting.
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
same "it goes on" "$(rl inspect -f '{{.State.Status}}' child)" running
rl kill child >/dev/null
same "it was told once" "$(rl events --since 60s --until 0s --filter event=oom --filter container=child | wc -l)" 1
same "why" "$(rl inspect -f '{{.State.OOMKilled}}' child)" true
rl rm -f child >/dev/null
check "what fits, fits" run --memory 200m dd if=/dev/zero of=/dev/null bs=10M count=1
same "swap" "$(run --memory 20m --memory-swap 30m cat /sys/fs/cgroup/memory.swap.max)" 10485760
same "reservation" "$(run --memory-reservation 8m --cgroup-conf memory.high=16777216 cat /sys/fs/cgroup/memory.low)" 8388608
same "any file" "$(value memory.high --cgroup-conf memory.high=16777216)" 16777216

# Tasks: a fork bomb stops.
bomb='i=0; while [ $i -lt 60 ]; do sleep 3 & i=$((i+1)); done; wait'
has "a fork bomb" "$(run --pids-limit 20 sh -c "$bomb" 2>&1 || true)" "can't fork"
same "tasks by default" "$(run cat /sys/fs/cgroup/pids.max)" 2048
same "tasks without limit" "$(value pids.max --pids-limit=-1)" max

# Processors: half of one, within ten percent, over five seconds.
rl run -d --name c --network none --cpus 0.5 --rootfs bb sh -c 'while :; do :; done' >/dev/null
used() { sed -n 's/^usage_usec //p' "$(group c)/cpu.stat"; }
sleep 1
before=$(used) began=$(date +%s%N)
sleep 5
percent=$((($(used) - before) * 100000 / ($(date +%s%N) - began)))
[ "$percent" -ge 45 ] && [ "$percent" -le 55 ] || fail "half a processor is $percent %"
shown=$(rl stats --no-stream --format '{{.CPUPerc}}' c)
[ "${shown%.*}" -ge 40 ] && [ "${shown%.*}" -le 60 ] || fail "stats shows $shown"

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
same "disks" "$(value io.weight --blkio-weight 500)" "default 4950"
has "a disk" "$(value io.max --device-write-bps /dev/vda:1mb)" wbps=1048576
# Written past the page cache, two megabytes take two seconds.
began=$(date +%s%N)
run --device-write-bps /dev/vda:1mb dd if=/dev/zero of=/tmp/slow bs=1M count=3 oflag=direct 2>/dev/null
[ $((($(date +%s%N) - began) / 1000000)) -ge 1500 ] || fail "three megabytes at one a second took no time"

# What cannot be applied is an error.
expect_fail 125 "--cpuset-cpus" run --cpuset-cpus 77 true
expect_fail 125 "the controller \`hugetlb\` is not delegated" run --hugetlb 2MB=64m true
expect_fail 125 "--cgroups disabled" run --cgroups disabled --memory 20m true
expect_fail 125 "can be raised" run --oom-score-adj -500 true
same "raised" "$(run --oom-score-adj 500 cat /proc/self/oom_score_adj)" 500
