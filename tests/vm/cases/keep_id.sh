# guest: trixie
# limit: 60
# A network by a newer pasta, for a container whose user is not its root.
same "the user's own id" "$(rl run --rm --network pasta --userns keep-id --rootfs bb id -u)" 1000
same "the user's own id, on this machine" "$(rl run --rm --network pasta host id -u)" 1000

# It goes with the container, however that ends.
none() { ! pgrep -x pasta && ! pgrep -x pasta.avx2; }
for end in 'rl stop -t 0 box' 'kill -9 $(ps -o ppid= -p "$(rl inspect -f {{.State.Pid}} box)")'; do
    rl run -d --name box --network pasta --userns keep-id --rootfs bb sleep 1000 >/dev/null
    pgrep -x 'pasta|pasta.avx2' >/dev/null || fail "no pasta"
    eval "$end" >/dev/null
    wait_for "the end of pasta after \`$end\`" none
    rl rm -f box >/dev/null
done
