#!/usr/bin/env bash
# The one command for a newcomer to this project. Copy it into your repository,
# beside machine.hcl.
#
#   ./onboard.sh                     boots the project's Docker host and says what to do next
#   ./onboard.sh docker compose up   the same, then runs a command against it
#
# Of several machines it is the first one; MACHINE=core-02 ./onboard.sh takes
# another.
#
# Run it as often as you like: what is up already stays as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

missing() {
	echo "onboard: $1 is missing: $2" >&2
	exit 1
}
command -v hostctl >/dev/null || missing hostctl "build it with make, and put bin/hostctl on your PATH"
command -v docker >/dev/null || missing "the Docker client" "install docker-cli (Debian, Ubuntu) or docker (Homebrew)"

hostctl validate >&2
hostctl up

status=$(hostctl status -o json)
machine=${MACHINE:-$(sed -n '/"name":/{s/.*: "\(.*\)".*/\1/p;q;}' <<<"$status")}
env=$(hostctl env ${machine:+"$machine"} --shell bash)
eval "$env"
if [[ $# -gt 0 ]]; then
	exec "$@"
fi

docker version --format 'Docker {{.Server.Version}} answers on '"$DOCKER_HOST"
cat <<NEXT

Point this shell's Docker client at it:

    eval "\$(hostctl env $machine)"

Done for today: hostctl halt. Away with it: hostctl destroy.
NEXT
