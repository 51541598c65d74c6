package network

import (
	"crypto/sha256"
	"net"
)

// MAC derives the hardware address of a domain's card from the domain's id, so
// that it stays the same and differs between domains. network is the declared
// network that the card is on, or "" for the card of the NAT network.
// 52:54:00 is QEMU's prefix.
func MAC(id, network string) net.HardwareAddr {
	seed := id
	if network != "" {
		seed += " " + network
	}
	sum := sha256.Sum256([]byte(seed))
	return net.HardwareAddr{0x52, 0x54, 0x00, sum[0], sum[1], sum[2]}
}
