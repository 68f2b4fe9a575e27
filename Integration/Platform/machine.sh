# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A machine of its own for tests that need one: systemd as process 1, with all that this machine has installed, in
# namespaces of its own and over a file system whose changes are dropped. Sourced, as root, inside of
#
#     unshare --mount --propagation private
#
#     machine ── eth0 192.0.2.10 ─────────── 192.0.2.1, 203.0.113.1 "internet": a web server and a name server
#
# It boots without a network: `plug_in` brings that.

# $top is the repository.
: "${top:?}"

# begin_machine FOLDER: boots the machine, with FOLDER/tree laid over its files.
begin_machine() {
    local folder=$1 name
    mkdir -p "$folder/changes" "$folder/root"
    mount -t tmpfs tmpfs "$folder/changes"
    mkdir "$folder/changes/upper" "$folder/changes/work"
    mount -t overlay -o "lowerdir=/,upperdir=$folder/changes/upper,workdir=$folder/changes/work" overlay "$folder/root"
    root=$folder/root
    cp -a "$folder/tree/." "$root/"
    # Its own name service and network, nothing of this machine's services.
    rm -rf "$root"/etc/systemd/system/* "$root/etc/resolv.conf" "$root/etc/machine-id"
    : > "$root/etc/resolv.conf"
    echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
    echo machine > "$root/etc/hostname"
    chroot "$root" useradd --shell /bin/bash --uid 4242 user
    # The engines' stores are on the machine's memory: not every file system can lie over an overlay.
    mkdir -p "$root/etc/containers" "$root/home"
    printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' \
        > "$root/etc/containers/storage.conf"
    cat > "$root/etc/systemd/system/lab.target" << END
[Unit]
Description=What a machine of the tests boots to
Requires=dbus.socket
END
    # The machine's processes are a part of the tree of cgroups, which they see as the whole tree.
    cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -n "$cgroups" ] || fail "no cgroup v2 is mounted here, and systemd needs it"
    cgroup=$cgroups/tapas-machine-$$
    mkdir "$cgroup"
    # shellcheck disable=SC2016 # the inner shell expands it
    (
        echo "$BASHPID" > "$cgroup/cgroup.procs"
        exec unshare --cgroup --pid --mount --net --uts --ipc --fork --kill-child --propagation private bash -ec '
            cd "$1"
            mount -t tmpfs -o mode=755 tmpfs dev
            for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "fuse 10 229"; do
                set -- "$1" $node
                mknod -m 666 "dev/$2" c "$3" "$4"
            done
            mkdir dev/net dev/pts dev/shm
            mknod -m 666 dev/net/tun c 10 200
            ln -s /proc/self/fd dev/fd
            ln -s fd/0 dev/stdin
            ln -s fd/1 dev/stdout
            ln -s fd/2 dev/stderr
            mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
            ln -s pts/ptmx dev/ptmx
            mount -t tmpfs tmpfs dev/shm
            mount -t proc proc proc
            mount -t sysfs sysfs sys
            mount -t cgroup2 cgroup2 sys/fs/cgroup
            mount -t tmpfs -o mode=755 tmpfs run
            mount -t tmpfs -o mode=1777 tmpfs tmp
            mount -t tmpfs -o mode=755 tmpfs home
            mkdir -p run/old var/lib/containers home/user/.config/containers run/user/4242
            mount -t tmpfs tmpfs var/lib/containers
            printf "[storage]\ndriver = \"vfs\"\n" > home/user/.config/containers/storage.conf
            chown -R 4242:4242 home/user run/user/4242
            pivot_root . run/old
            umount -l /run/old
            rmdir /run/old
            hostname machine
            export container=tapas-test
            exec /lib/systemd/systemd --system --unit=lab.target --show-status=no
        ' machine "$root"
    ) > "$folder/boot.log" 2>&1 < /dev/null &
    machine_job=$!
    for ((name = 0; name < 300; name++)); do
        machine=$(cat "/proc/$machine_job/task/$machine_job/children" 2> /dev/null || true)
        machine=${machine%% *}
        if [ -n "$machine" ] && in_machine systemctl is-active --quiet lab.target 2> /dev/null; then return; fi
        kill -0 "$machine_job" 2> /dev/null || break
        sleep 0.1
    done
    cat "$folder/boot.log" >&2
    fail "systemd does not come up in the machine"
}

# in_machine COMMAND...: runs it there as root.
in_machine() {
    nsenter -t "$machine" --mount --uts --ipc --net --pid --cgroup --root --wd -- \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb "$@"
}

# as_user COMMAND...: runs it there as an ordinary user.
as_user() {
    in_machine setpriv --reuid=4242 --regid=4242 --init-groups \
        env HOME=/home/user USER=user XDG_RUNTIME_DIR=/run/user/4242 "$@"
}

# plug_in FOLDER: the cable to the internet, without addresses of the machine.
plug_in() {
    unshare --net sh -c 'echo $$; exec sleep infinity' > "$1/internet" &
    internet_job=$!
    until internet=$(cat "$1/internet" 2> /dev/null) && [ -n "$internet" ]; do sleep 0.05; done
    ip link add eth0 netns "$machine" type veth peer name eth0 netns "$internet"
    nsenter -t "$internet" --net ip -batch - << END
link set lo up
address add 192.0.2.1/24 dev eth0
address add 203.0.113.1/32 dev lo
link set eth0 up
END
    nsenter -t "$internet" --net python3 "$top/Integration/Stories/server.py" > "$1/server" &
    servers=("$!")
    nsenter -t "$internet" --net python3 "$top/Integration/Lab/Programs/dns.py" 192.0.2.1 203.0.113.1 > "$1/names" &
    servers+=("$!")
    until grep -qs ready "$1/server" && grep -qs ready "$1/names"; do sleep 0.05; done
}

# connect: what a network manager does when the network comes.
connect() {
    in_machine sh -ec '
        ip link set eth0 up
        ip address add 192.0.2.10/24 dev eth0
        ip route add default via 192.0.2.1
        echo nameserver 192.0.2.1 > /etc/resolv.conf.new
        mv /etc/resolv.conf.new /etc/resolv.conf'
}

# end_machine: ends all of it.
end_machine() {
    kill "${servers[@]}" "${internet_job:-}" 2> /dev/null || true
    [ -z "${machine:-}" ] || kill -9 "$machine" 2> /dev/null || true
    wait "${machine_job:-}" 2> /dev/null || true
    [ -z "${cgroup:-}" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2> /dev/null || true
}
