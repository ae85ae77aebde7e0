# Inside a container that has a group of its own, limits need no systemd: rl divides the group.
mkdir -p bb/rl bb/inner
cp "$(command -v rl)" bb/rl/
cp -a bb/bin bb/etc bb/inner/
mkdir -p bb/inner/{dev,proc,sys,tmp,usr}
outer() {
    rl run --rm --network none --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt unmask=ALL \
        -e PATH=/rl:/bin -e HOME=/root --memory 200m --rootfs bb "$@"
}
inner='rl run --rm --network none --rootfs /inner'
same "a limit" "$(outer sh -c "$inner --memory 20m cat /sys/fs/cgroup/memory.max")" 20971520
same "twice" "$(outer sh -c "$inner --memory 20m true; $inner --pids-limit 7 cat /sys/fs/cgroup/pids.max")" 7
script='rl run -d --name in --network none --pids-limit 7 --rootfs /inner sleep 100 >/dev/null
rl pause in >/dev/null && rl unpause in >/dev/null
rl exec in cat /sys/fs/cgroup/pids.max
rl rm -f in >/dev/null
ls -d /sys/fs/cgroup/rl-* 2>/dev/null
true'
same "its life, and nothing left" "$(outer sh -c "$script")" 7
# It sees no more than it was given.
same "the outer limit" "$(outer cat /sys/fs/cgroup/memory.max)" 209715200
