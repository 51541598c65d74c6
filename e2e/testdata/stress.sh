#!/bin/bash
# What programs do to a file system, on a share: runs as the guest's root in the
# folder /scratch, in a root made by e2e/stress_test.go. Prints what took how long,
# and what failed.
set -euo pipefail
cd /scratch

# try COMMAND... shows what a command said only when it failed.
try() {
	local log
	log=$(mktemp -p /tmp)
	"$@" >"$log" 2>&1 || {
		echo "failed: $*"
		tail -n 60 "$log"
		exit 1
	}
	rm "$log"
}

# stress SECONDS OPTION... runs stress-ng's programs at one time until they have
# done their number of rounds, or for as long. None may have done nothing.
stress() {
	local log seconds=$1
	shift
	log=$(mktemp -p /tmp)
	try stress-ng --temp-path /scratch --verify --log-file "$log" --metrics-brief --timeout "$seconds" "$@"
	awk '
		/ bogo ops / { begun = 1; next }
		begun && $5 ~ /^[0-9]+$/ { n++; if ($5 == 0) { print $4 " did nothing"; bad = 1 } }
		/miscellaneous/ { exit }
		END { if (!n) print "no figures"; exit bad || !n }' "$log" || { cat "$log"; exit 1; }
	rm "$log"
}

# Of links stress-ng makes 8,192, or as many as there is time for, and removes
# them all.
stress 10 --link 1 --symlink 1 &
links=$!
stress 150 --dir 1 --dir-dirs 64 --dir-ops 128 --dentry 1 --dentries 64 --dentry-ops 64 --chmod 1 --chmod-ops 2 \
	--chown 1 --chown-ops 80 --rename 1 --rename-ops 80 --open 1 --open-max 64 --open-ops 200 --utime 1 --utime-ops 80 \
	--flock 2 --flock-ops 10000 --hdd 1 --hdd-bytes 4M --hdd-ops 1000 --seek 1 --seek-size 1M --seek-ops 5000 \
	--fallocate 1 --fallocate-bytes 1M --fallocate-ops 8
wait "$links"
echo "stress-ng: $SECONDS s"

# What is cut off is gone, and zeros come where a file grows. Half of it is read
# from the guest's memory, half from the server.
head -c 300001 /dev/urandom >whole
cp whole cut
kept=300001
for size in 200001 4097 8193 65537 4096 300000 1 0 70000; do
	truncate -s "$size" cut
	kept=$((size < kept ? size : kept))
	for _ in memory server; do
		{ head -c "$kept" whole; head -c "$((size - kept))" /dev/zero; } | cmp - cut || { echo "truncate to $size of which $kept are kept"; exit 1; }
		sync cut
		dd if=cut iflag=nocache count=0 status=none
	done
done
rm whole cut

try fio --directory=/scratch --verify=crc32c --verify_fatal=1 --group_reporting --ioengine=psync \
	--name=sequential --rw=write --bs=256k --size=8M --end_fsync=1 \
	--name=random --rw=randwrite --bs=4k --size=1M --numjobs=3 --fsync=64
rm -f -- *.0
echo "and truncate, fio: $SECONDS s"

try dbench --loadfile=/client.txt --directory=/scratch --timelimit=7 2
echo "and dbench: $SECONDS s"

export HOME=/tmp GIT_CONFIG_NOSYSTEM=1 GIT_TEMPLATE_DIR=/nowhere GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
mkdir tree
for i in {1..80}; do
	mkdir -p "tree/d$((i % 8))"
	seq "$i" "$((i * 20))" >"tree/d$((i % 8))/f$i"
done
chmod 755 tree/d1/f1
ln -s f1 tree/d1/link
ln tree/d2/f2 tree/d2/hard
try git -C tree init --quiet
try git -C tree add .
try git -C tree commit --quiet --message=all
try git clone --quiet --no-hardlinks tree clone
try git -C clone gc --quiet
try git -C clone fsck --strict
[[ -z $(git -C clone status --porcelain) ]] || { echo "git sees changes where there are none"; git -C clone status; exit 1; }
tar cf tree.tar tree
mkdir from-tar
tar xf tree.tar -C from-tar
try diff -r --no-dereference tree from-tar/tree
[[ $(stat -c %h from-tar/tree/d2/f2) == 2 ]] || { echo "tar lost a hard link"; exit 1; }
cd /
rm -r /scratch/*
echo "and git, tar: $SECONDS s"
