# guest: trixie
# as: root
# AppArmor with a policy for every program, which forbids user namespaces: what `rl` says of that, and that the lines of
# `rl doctor`, executed by root, turn its verdict and let containers run. The same once more as with Ubuntu's switch, which is
# in no kernel of Debian.

alice() { setpriv --reuid alice --regid alice --init-groups env HOME=/home/alice XDG_RUNTIME_DIR=/run/user/1000 "$@"; }
# look WHO…: keeps the doctor's finding; `of FIELD` is a part of it.
look() { { "$@" rl doctor --json || true; } | jq '.[] | select(.id == "user-namespace")' >found; }
of() { jq -r ".$1" found; }
runs() { check "$1" alice rl run --rm --rootfs "$PWD/bb" true; }

# policy EXEC: loads the one for all, where EXEC says what becomes of a program with a profile of its own.
policy() {
    cat >/etc/apparmor.d/everyone <<END
abi <abi/4.0>,
profile everyone /** flags=(attach_disconnected) {
  capability, network, mount, remount, umount, pivot_root, ptrace, signal, unix, dbus, mqueue, io_uring, change_profile,
  /{,**} rwlkm,
  /** $1,
  deny userns,
}
END
    apparmor_parser -r /etc/apparmor.d/everyone
}
# refused WHEN PROFILE: it is said by whom and why.
refused() {
    same "the verdict $1" "$(of verdict)" missing
    same "the evidence $1" "$(of evidence)" \
        "clone3(CLONE_NEWUSER): EACCES; AppArmor's profile \`$2\` is in force, without a rule \`userns,\`"
}

chown -R alice: bb
look alice
same "the verdict without a policy" "$(of verdict)" ok

# As ever, pasta is under the profile that its package comes with.
apparmor_parser -r /etc/apparmor.d/usr.bin.pasta
policy pix
expect_fail 1 "Permission denied" alice unshare --user true
expect_fail 125 "hint: AppArmor's profile \`everyone\` refuses it; as root: what \`rl doctor --admin-script\` prints" \
    alice rl run --rm --rootfs "$PWD/bb" true
look alice
refused "under the policy" everyone
same "whose the line is" "$(of as_root)" true
of fix >line
has "the line" "$(cat line)" 'profile rl "/usr/local/bin/rl" flags=(unconfined) {'
{ alice rl doctor --admin-script || true; } >script
has "the script" "$(cat script)" "$(cat line)"

# What else refuses them is told as ever: a filter, and a limit.
look systemd-run --quiet --wait --pipe --collect --uid alice -E HOME=/home/alice -p RestrictNamespaces=yes
has "the fix under a filter" "$(of fix)" RestrictNamespaces=no
sysctl -qw user.max_user_namespaces=0
look alice
same "the fix of the limit" "$(of fix)" "sysctl -w user.max_user_namespaces=15000"
sysctl -qw user.max_user_namespaces=15000

# In a container the machine's policy cannot be seen, nor be changed.
contained() { unshare --mount sh -ec 'mount -t tmpfs none /sys/kernel/security; exec setpriv --reuid alice "$@"' sh "$@"; }
look contained --regid alice --init-groups env HOME=/home/alice
refused "in a container" everyone
has "the fix in a container" "$(of fix)" "--security-opt apparmor=unconfined"
same "whose the fix in a container is" "$(of as_root)" false

# The line, then the script in its place.
check "the line" sh -e line
look alice
same "the verdict after the line" "$(of verdict)" ok
runs "a container after the line"
expect_fail 1 "Permission denied" alice unshare --user true
apparmor_parser -R /etc/apparmor.d/rl
rm /etc/apparmor.d/rl
look alice
refused "without the profile again" everyone
check "the script" sh script
look alice
same "the verdict after the script" "$(of verdict)" ok
runs "a container after the script"

# A profile that keeps its programs, whatever profile they have, is not mended that way: it is not told again.
policy ix
look alice
refused "under what keeps its programs" everyone
has "the fix under what keeps its programs" "$(of fix)" 'give the profile `everyone` the rule `userns,`'
same "whose the fix under what keeps its programs is" "$(of as_root)" false
sed -i 's/deny userns/userns/' /etc/apparmor.d/everyone
apparmor_parser -r /etc/apparmor.d/everyone
look alice
same "the verdict with the rule" "$(of verdict)" ok

# As Ubuntu's switch has it: the namespace is made, and nothing may be done in it. The kernel's change gives such a process a
# profile without capabilities; here ours has none. The switch itself is a file in the place where Ubuntu's kernel has it.
apparmor_parser -R /etc/apparmor.d/everyone
apparmor_parser -R /etc/apparmor.d/rl
rm /etc/apparmor.d/everyone /etc/apparmor.d/rl
cat >/etc/apparmor.d/unprivileged_userns <<'END'
abi <abi/4.0>,
profile unprivileged_userns /usr/local/bin/** flags=(attach_disconnected) {
  network, mount, remount, umount, pivot_root, ptrace, signal, unix, dbus, mqueue, io_uring, change_profile, userns,
  /{,**} rwlkm,
  /** pix,
  /usr/bin/newuidmap ux,
  /usr/bin/newgidmap ux,
  deny capability,
}
END
mkdir kernel
# What can only be written cannot be copied.
cp -a /proc/sys/kernel/. kernel 2>left-out || true
echo 1 >kernel/apparmor_restrict_unprivileged_userns
switched() {
    unshare --mount sh -ec '
        mount --bind kernel /proc/sys/kernel
        exec setpriv --reuid alice --regid alice --init-groups env HOME=/home/alice XDG_RUNTIME_DIR=/run/user/1000 "$@"' sh "$@"
}
look switched
same "the verdict with the switch alone" "$(of verdict)" ok
apparmor_parser -r /etc/apparmor.d/unprivileged_userns
look switched
same "the verdict with the switch" "$(of verdict)" missing
has "the evidence with the switch" "$(of evidence)" "EPERM; kernel.apparmor_restrict_unprivileged_userns is 1"
of fix >line
has "the line with the switch" "$(cat line)" 'profile rl "/usr/local/bin/rl" flags=(unconfined) {'
expect_fail 125 "hint: as root: \`sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\`, or for this program alone what \`rl doctor --admin-script\` prints" \
    switched rl run --rm --rootfs "$PWD/bb" true
check "the line with the switch" sh -e line
look switched
same "the verdict with the switch and the profile" "$(of verdict)" ok
check "a container with the switch and the profile" switched rl run --rm --rootfs "$PWD/bb" true
