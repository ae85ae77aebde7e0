# Sessions of systemd: without one, in a service, and its journal.

image

same "without XDG_RUNTIME_DIR" "$(env -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS rl run --rm --network none bb echo done)" done
same "in a service of the user's" \
    "$(systemd-run --user --quiet --wait --pipe --collect -p WorkingDirectory="$PWD" rl run --rm --network none --rootfs bb echo done)" done

rl run -d --name written --network none --log-driver journald bb sh -c 'echo first line; echo second line >&2; sleep 1000' >/dev/null
in_journal() { journalctl --user --quiet -o cat CONTAINER_NAME=written | grep -q "$1"; }
wait_for "standard output in the journal" in_journal 'first line'
wait_for "standard error in the journal" in_journal 'second line'
has "what logs shows" "$(rl logs written)" 'second line'
same "the last line" "$(rl logs -n 1 written | wc -l)" 1
rl rm -f written

# A container in the background does not end with the service that started it.
systemd-run --user --quiet --wait --pipe --collect rl run -d --name stays --network none bb sleep 1000 >/dev/null
has "what runs after the service" "$(rl ps)" stays
check "removal" rl rm -f stays
