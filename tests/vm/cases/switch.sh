# The process that carries a network's frames is in the group of none of its members.
rl network create --internal n >/dev/null
rl run -d --name a --network n --rootfs bb sleep 1000 >/dev/null
rl run -d --name b --network n --rootfs bb sleep 1000 >/dev/null
switch() { pgrep -x rl-switch; }
group() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }
scope() { dirname "$(rl inspect -f '{{.State.CgroupPath}}' "$1")"; }
has "its own scope" "$(group "$(switch)")" "/user@1000.service/rl.slice/rl-network-n-$(switch).scope"
first=$(switch)

# The first member goes with all that is in its group.
echo 1 >"$(scope a)/cgroup.kill"
wait_for "the end of a" sh -c 'rl ps -a --filter name=a --format "{{.State}}" | grep -q exited'
same "the switch" "$(switch)" "$first"
rl start a >/dev/null
check "names are answered" rl exec b nslookup -type=a a

# What comes after one that was killed is apart as well.
kill -KILL "$first"
wait_for "another one" sh -c "pgrep -x rl-switch | grep -vqx $first"
wait_for "its scope" sh -c 'grep -q "rl-network-n-" "/proc/$(pgrep -x rl-switch)/cgroup"'
rl rm -f a b >/dev/null
wait_for "the scope is gone" sh -c '[ -z "$(systemctl --user list-units --all --plain --no-legend "rl*")" ]'
rl network rm n >/dev/null
