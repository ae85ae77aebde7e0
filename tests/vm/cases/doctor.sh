# as: root
# What `rl doctor` says of the guest, and that its lines, executed by root, turn the verdict.

alice() { setpriv --reuid alice --regid alice --init-groups env -C / HOME=/home/alice XDG_RUNTIME_DIR=/run/user/1000 rl doctor "$@"; }
service() { as user rl doctor "$@"; }
bob() { as bob systemd-run --user --quiet --wait --pipe --collect rl doctor "$@"; }
# look [WHO]: keeps what is found. Then: the field $2 of the finding $1.
look() { "${1:-alice}" --json >found || true; }
finding() { jq -r --arg id "$1" --arg field "$2" '.[] | select(.id == $id)[$field]' found; }

# mends ID: executes the line for root.
mends() {
    local line
    line=$(finding "$1" fix)
    same "whose the line of $1 is" "$(finding "$1" as_root)" true
    echo "$1: $line"
    sh -ec "$line" >/dev/null
}

# lacks ID VERDICT CMD…: after CMD the finding is VERDICT, and its line mends it.
lacks() {
    local id=$1 verdict=$2
    shift 2
    "$@"
    look
    same "$id after \`$*\`" "$(finding "$id" verdict)" "$verdict"
    mends "$id"
    look
    same "$id after its line" "$(finding "$id" verdict)" ok
}

no_subids() { sed -i '/^alice:/d' /etc/subuid /etc/subgid; }

# As a service of alice's manager, which has a control group of its own, all is well.
look service
same "what is not ok" "$(jq -r '.[] | select(.verdict != "ok").id' found)" ""

lacks subordinate-ids degraded no_subids
lacks newuidmap degraded chmod u-s /usr/bin/newuidmap
lacks newuidmap degraded chmod u-s /usr/bin/newgidmap
lacks tun degraded chmod 600 /dev/net/tun
lacks user-namespace missing sysctl -qw user.max_user_namespaces=0
lacks user-namespace missing sysctl -qw kernel.unprivileged_userns_clone=0

# Three lacks at once, and the script that mends them all.
no_subids
chmod 600 /dev/net/tun
sysctl -qw kernel.unprivileged_userns_clone=0
for _ in 1 2; do
    # What needs user namespaces shows when these are there.
    { alice --admin-script || true; } >script
    check "the script" sh script
done
check "nothing is missing" alice

# Bob's manager has a part only. What a manager may delegate is read when it starts.
look bob
has "cgroup of bob" "$(finding cgroup verdict): $(finding cgroup evidence)" "note: delegated: memory pids; without cpu, cpuset, io there"
same "linger of bob" "$(finding linger verdict)" note
mends cgroup
systemctl stop user@1001.service
mends linger
look bob
same "cgroup of bob after its line" "$(finding cgroup verdict)" ok
same "linger of bob after its line" "$(finding linger verdict)" ok

# Whoever has no manager gets one by the line.
loginctl disable-linger bob
systemctl stop user@1001.service
# logind forgets him after a while (logind.conf(5), UserStopDelaySec); before, it would start nothing.
wait_for "bob to be forgotten" sh -c '! loginctl show-user bob >/dev/null 2>&1'
su_bob() { setpriv --reuid bob --regid bob --init-groups env -C / HOME=/home/bob rl doctor "$@"; }
look su_bob
same "systemd of bob without a login" "$(finding systemd verdict)" note
mends systemd
wait_for "the manager of bob" test -S /run/user/1001/systemd/private
look su_bob
same "systemd of bob after its line" "$(finding systemd verdict)" ok
same "what bob is told to set" "$(finding runtime-dir fix)" "export XDG_RUNTIME_DIR=/run/user/1001"

# What a unit keeps from its processes is said to be the unit's.
# within ID PROPERTY WORDS: the finding ID, under a unit with PROPERTY, has WORDS in its fix.
within() {
    systemd-run --quiet --wait --pipe --collect --uid alice -E HOME=/home/alice -p "$2" rl doctor --json >found || true
    has "$1 with $2" "$(finding "$1" fix)" "$3"
    has "$1 with $2" "$(finding "$1" fix)" "systemctl edit run-"
}
within subordinate-ids PrivateUsers=yes PrivateUsers=no
within user-namespace RestrictNamespaces=yes RestrictNamespaces=no
within umask UMask=0777 UMask=0022
within open-files LimitNOFILE=64 LimitNOFILE=
within memory MemoryMax=64M MemoryMax=
within processes LimitNPROC=32 LimitNPROC=
