# What `stats` shows, beside what is known to have been used; and what there is without a group.
group() { rl inspect -f '{{.State.CgroupPath}}' "$1"; }
figure() { rl stats --no-stream --format json s | jq -r ".$1"; }
# least WHAT TEXT UNIT N: the text is a number of that unit, and no smaller.
least() { [[ $2 =~ ^([0-9]+)[.0-9]*$3$ ]] && [ "${BASH_REMATCH[1]}" -ge "$4" ] || fail "$1: $2, not $4 $3 and more"; }

mkdir files
dd if=/dev/zero of=files/file bs=1M count=32 oflag=direct 2>/dev/null
rl run -d --name s --network slirp4netns -p 127.0.0.1:8080:80 --memory 100m -v "$PWD/files:/files" --rootfs bb \
    httpd -f -h /files >/dev/null

# Memory that is held counts, the page cache does not.
same "the limit" "$(figure MemUsage | sed 's,.*/ ,,')" 100MiB
rl exec s sh -c 'dd if=/dev/zero of=/dev/shm/held bs=1M count=16 2>/dev/null; cat /files/file >/dev/null'
[ "$(sed -n 's/^file //p' "$(group s)/memory.stat")" -ge $((48 << 20)) ] || fail "it is not in the page cache"
shown=$(figure MemUsage | sed 's, /.*,,')
least "memory" "$shown" MiB 16
[ "${shown%%[.M]*}" -lt 40 ] || fail "$shown: with the page cache"

# Disks past the page cache, the network by a published port.
rl exec s dd if=/files/file of=/dev/null bs=1M iflag=direct 2>/dev/null
rl exec s dd if=/dev/zero of=/files/written bs=1M count=8 oflag=direct 2>/dev/null
least "what is read" "$(figure BlockIO | sed 's, /.*,,')" MB 33
least "what is written" "$(figure BlockIO | sed 's,.*/ ,,')" MB 8
busybox wget -q -O /dev/null http://127.0.0.1:8080/written
least "what is sent" "$(figure NetIO | sed 's,.*/ ,,')" MB 8
has "pressure" "$(figure Pressure)" "% / "
has "the table" "$(rl stats --no-stream s)" "PIDS      PRESSURE CPU / MEM / I/O"
rl exec -d s sleep 1000
two() { [ "$(figure PIDs)" = 2 ]; }
wait_for "the two tasks" two

# Shown again and again, until one stops it.
shown=$(timeout 60 rl stats --no-reset --format '{{.Name}} {{.CPUPerc}}' s | grep -m 2 '^s [0-9.]*%$' || true)
same "shown again" "$(wc -l <<<"$shown")" 2
rl rm -f s >/dev/null

# Without a group processes are added up, stopped and killed one by one; limits cannot be had.
rl run -d --name s --cgroups disabled --network none --rootfs bb sh -c 'sleep 54321 & sleep 54322' >/dev/null
states() { ps -o state= -p "$(pgrep -d, -f '^sleep 5432')" | sort -u | tr -d '\n'; }
both() { [ "$(pgrep -c -f '^sleep 5432')" = 2 ]; }
wait_for "both" both
same "tasks of none" "$(figure PIDs)" 2
least "memory of none" "$(figure MemUsage | sed 's, /.*,,')" KiB 1
rl pause s >/dev/null
same "all are stopped" "$(states)" T
rl unpause s >/dev/null
wait_for "all go on" sh -c '[ "$(ps -o state= -p "$(pgrep -d, -f "^sleep 5432")" | sort -u)" = S ]'
expect_fail 1 "control group" rl update --memory 20m s
rl kill s >/dev/null
wait_for "the end of both" sh -c '! pgrep -f "^sleep 5432"'
rl rm s >/dev/null
