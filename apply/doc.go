// Package apply is the other back end: it brings a State about in the kernel, where no networkd
// does. Its steps are observe, plan, execute and verify.
//
//	fib.State ─ Resolve ► on this host's links ─┐
//	Kernel.Observe ─────► what is there ────────┴─ Plan ► operations ─ Run ► Kernel.Execute
//
// It may run at any time and any number of times: it changes only what differs, adds before it
// removes, and touches nothing but what bears our protocol number. Where the kernel refuses an
// operation, it undoes all before it. The kernel is behind the interface Kernel; the real one is
// in apply/rtnl.
//
// It knows neither TOML nor systemd.
package apply
