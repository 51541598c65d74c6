// Package lab gives tests a place of their own in which libvirtd runs, networks
// are made and a LAN is played: new network, mount and process namespaces, in
// which what libvirt keeps on this host is hidden. The kernel ends every process in
// it with the test, also after a kill -9, and with them go all interfaces and
// mounts, so that nothing can be left behind.
//
//	func TestMain(m *testing.M) { os.Exit(lab.Run(m, lab.Wanted())) }
//
//	func TestSomething(t *testing.T) {
//		lab.Need(t)
//		d := lab.Libvirtd(t)
//
// [Hung] is a folder on a disk that does not answer, in or out of it.
//
// It exists on Linux only, and wants root.
package lab
