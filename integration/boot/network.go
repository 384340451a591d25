package boot

import (
	"context"
	"fmt"
	"strings"

	"github.com/uplink-generator/uplink-generator/integration/lab"
)

// loopbackDown sets lo down, because on a real host it is PID 1 that sets it up.
func loopbackDown(ctx context.Context, n *lab.Namespace) error {
	if _, err := n.Run(ctx, "ip", "link", "set", "down", "dev", "lo"); err != nil {
		return err
	}
	_, err := n.Run(ctx, "ip", "address", "flush", "dev", "lo")
	return err
}

// bare makes a host's network as it is when a kernel starts: cards down, and nothing but the
// kernel's own rules.
func bare(ctx context.Context, n *lab.Namespace) error {
	links, err := n.Run(ctx, "ip", "-o", "link", "show")
	if err != nil {
		return err
	}
	var commands []string
	for line := range strings.Lines(links) {
		// "2: eth0@if65536: <…"
		_, rest, _ := strings.Cut(line, ": ")
		name, _, _ := strings.Cut(rest, ":")
		name, _, _ = strings.Cut(name, "@")
		commands = append(commands, "link set down dev "+name, "address flush dev "+name)
	}
	for _, family := range []string{"-4", "-6"} {
		commands = append(commands, family+" route flush table all", family+" rule flush",
			family+" rule add priority 32766 lookup main protocol kernel")
	}
	commands = append(commands, "-4 rule add priority 32767 lookup default protocol kernel")
	for _, c := range commands {
		if _, err := n.Run(ctx, "ip", strings.Fields(c)...); err != nil {
			return err
		}
	}
	// rule flush keeps the rules of priority 0, which may be more than the kernel's.
	const kernelRules = 5
	rules, err := n.Rules(ctx)
	if err != nil {
		return err
	}
	routes, err := n.Routes(ctx)
	if err != nil {
		return err
	}
	if len(rules) != kernelRules || len(routes) != 0 {
		return fmt.Errorf("the network cannot be cleared: left are %v and %v", rules, routes)
	}
	return nil
}
