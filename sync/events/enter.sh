# enter.sh GROUP SCRIPT SHARE...: runs SCRIPT in the group, as root, where there
# is nothing but the system's programs and the shares. Nothing else can be
# written to, and no symbolic link leads anywhere else: those in a share are made
# by others. Runs in a mount namespace of its own, which goes with it.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
group=$1 script=$2
shift 2
root=/run/hostctl-events
mkdir -p "$root"
mount -t tmpfs -o mode=0700 hostctl-events "$root"
cd "$root"
mkdir usr dev share
mount --bind /usr usr
mount -o remount,bind,ro usr
: >dev/null
mount --bind /dev/null dev/null
for dir in bin sbin lib lib32 lib64 libx32; do
	if [ -L "/$dir" ]; then
		ln -s "$(readlink "/$dir")" "$dir"
	elif [ -d "/$dir" ]; then
		mkdir "$dir"
		mount --bind "/$dir" "$dir"
		mount -o remount,bind,ro "$dir"
	fi
done
n=0
for share; do
	if [ "$(stat -f -c %T -- "$share")" != nfs ]; then
		echo "$share is not mounted"
		exit 1
	fi
	mkdir "share/$n"
	mount --bind -- "$share" "share/$n"
	mount -o remount,bind,nosuid,nodev,noexec "share/$n"
	n=$((n + 1))
done
mount -o remount,ro "$root"
exec setpriv --groups "$group" --no-new-privs chroot "$root" /bin/sh -c "$script"
