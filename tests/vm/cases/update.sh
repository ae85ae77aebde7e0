# root: dd if=/dev/zero of=swap bs=1M count=96 status=none; chmod 600 swap; mkswap swap >/dev/null; swapon swap
# What `rl update` changes holds at once, and after every next start, whoever starts the container again; what cannot be had
# changes nothing.
group() { rl inspect -f '{{.State.CgroupPath}}' u; }
files() { for name in "$@"; do cat "$(group)/$name"; done | tr '\n' ' '; }
inside() { rl exec u sh -c 'cd /sys/fs/cgroup && cat "$@"' sh "$@" | tr '\n' ' '; }
begin() { rl run -d --name u --network none "$@" --rootfs bb sleep 1000 >/dev/null; }
again() { rl kill u >/dev/null; rl wait u >/dev/null; rl start u >/dev/null; }
# holds WHAT VALUES FILE…: before and after the next start.
holds() {
    same "$1" "$(files "${@:3}")" "$2 "
    again
    same "$1, later" "$(files "${@:3}")" "$2 "
}

# Memory and swap are counted together, whichever of the two is changed.
begin --memory 20m --memory-swap 60m
rl update --memory 40m u >/dev/null
holds "memory" "41943040 20971520" memory.max memory.swap.max
rl update --memory-swap 80m u >/dev/null
holds "both together" "41943040 41943040" memory.max memory.swap.max
check "what fits into both" rl exec u dd if=/dev/zero of=/dev/null bs=60M count=1
expect_fail 1 "--memory-swap\` is less" rl update --memory 100m u
expect_fail 1 "--memory-reservation 50m" rl update --memory-reservation 50m u
rl update --memory=-1 u >/dev/null
holds "no memory limit" "max max" memory.max memory.swap.max
rl rm -f u >/dev/null
begin --memory 20m --memory-swap=-1
rl update --memory 30m u >/dev/null
holds "swap without limit" "31457280 max" memory.max memory.swap.max
rl rm -f u >/dev/null

# Disks: what is limited, and no more; a quota in the period that there is; any file.
begin --device-read-bps /dev/vda:1mb --cpu-quota 20000 --cpu-period 50000
rl update --device-write-iops /dev/vda:70 --cpu-quota 30000 --cgroup-conf memory.high=33554432 u >/dev/null
disk=$(cat /sys/block/vda/dev)
holds "more limits" "$disk rbps=1048576 wbps=max riops=max wiops=70 30000 50000 33554432" io.max cpu.max memory.high
rl update --device-read-bps /dev/vda:0 u >/dev/null
holds "one less" "$disk rbps=max wbps=max riops=max wiops=70" io.max
# All of it or nothing.
expect_fail 1 "--cpuset-cpus" rl update --memory 64m --device-read-bps /dev/vda:2mb --cpuset-cpus 77 u
holds "what was refused" "max $disk rbps=max wbps=max riops=max wiops=70" memory.max io.max
rl rm -f u >/dev/null

# Whom the kernel kills first: all that run, of any user, who comes later, and after the next start.
begin --oom-score-adj 300
rl exec -d --user 1000 u sleep 1001
wait_for "another user's process" pgrep -f '^sleep 1001'
scores() { for pid in $(pgrep -f '^sleep 100[01]$'); do cat "/proc/$pid/oom_score_adj"; done | sort | uniq -c | tr -s ' \n' ' '; }
same "at first" "$(scores)" " 2 300 "
rl update --oom-score-adj 400 u >/dev/null
same "later" "$(scores)" " 2 400 "
same "who joins" "$(rl exec u cat /proc/self/oom_score_adj)" 400
same "this shell's" "$(cat /proc/self/oom_score_adj)" 0
again
same "after the next start" "$(scores)" " 1 400 "
rl rm -f u >/dev/null

# Started again by its monitor: what the container sees, and is held by, is what was changed.
begin --restart always --pids-limit 20 --memory 20m --memory-swap 20m
rl update --pids-limit 50 --memory 64m --memory-swap 64m --oom-score-adj 100 u >/dev/null
kill -KILL "$(rl inspect -f '{{.State.Pid}}' u)"
again_by_itself() { [ "$(rl inspect -f '{{.RestartCount}} {{.State.Status}}' u)" = "1 running" ]; }
wait_for "it runs again" again_by_itself
same "what holds" "$(files pids.max memory.max memory.swap.max)" "50 67108864 0 "
same "what is seen" "$(inside pids.max memory.max memory.swap.max /proc/1/oom_score_adj)" "50 67108864 0 100 "
check "it may take that much" rl exec u dd if=/dev/zero of=/dev/null bs=40M count=1
rl rm -f u >/dev/null
