// Package boot boots real Debian systems, of the systemd versions that the product
// is for, as containers in the network of a lab's host: what a lab shows of one
// daemon, a [Machine] shows of a whole boot, with generators, the order of units,
// reloads and reboots.
//
//	product, err := boot.BuildProduct(ctx)
//	m, err := boot.Start(ctx, boot.Config{
//		Root: boot.Root{Suite: boot.Bookworm}, Lab: l, Product: product,
//		Tree: os.DirFS("examples/recipe/root"), Enable: []string{"systemd-networkd.service"},
//	})
//	state, err := m.WaitBooted(ctx)
//	out, err := m.Run(ctx, "uplinkctl", "verify")
//
// A machine is systemd-nspawn over an overlay of its own, so that no test sees what
// another has done. The machine's cards are those of [lab.Lab]'s Host; the providers
// and the client are outside and can be asked as in any lab. It needs no systemd as
// the outer PID 1. What a container cannot show is udev, a kernel of its own, and
// the early boot before the root file system.
//
// Nothing here depends on a test framework: functions return errors. [Require] says
// what this computer lacks. Everything a machine needs, its mounts among it, belongs
// to its processes, and these to the process that started it; [Machine.Close] leaves
// nothing behind, and [RemoveStale] removes what a killed run has left.
package boot
