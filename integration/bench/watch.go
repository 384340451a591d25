package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/integration/internal/programs"
)

// The watch's targets.
const (
	maxMedianDelay = 10   // ms from an address to its rule
	maxDelay       = 100  // ms, the slowest
	maxWatchStart  = 1000 // ms until the rules of all uplinks are there
	maxWatchKiB    = 10 << 10
)

const (
	watchUplinks = 1000
	leaseChanges = 1000
	stormTime    = 10 * time.Second
	stormRate    = 1000 // changes a second
	idleTime     = 30 * time.Second
)

// watch measures uplinkctl watch, each time in a network namespace of its own.
func (b *bencher) watch(ctx context.Context, _ int) error {
	for _, n := range []int{2, watchUplinks} {
		if err := tornDown(ctx); err != nil {
			return err
		}
		if err := inNamespace(func() error { return b.watchHere(ctx, n) }); err != nil {
			return err
		}
	}
	return nil
}

func (b *bencher) watchHere(ctx context.Context, uplinks int) error {
	fmt.Fprintf(b.out, "## The watch, %d links that learn\n\n", uplinks)
	v := b.verdicts()
	var links, addresses, toml strings.Builder
	for i := range uplinks {
		fmt.Fprintf(&links, "link add w%d type ifb\nlink set w%[1]d up\n", i)
		fmt.Fprintf(&addresses, "address add 10.%d.%d.10/24 dev w%d\n", i/250, i%250, i)
		fmt.Fprintf(&toml, "[uplink.u%d]\ninterface = \"w%[1]d\"\nmanage = \"policy\"\ndhcp = \"ipv4\"\n", i)
	}
	if err := b.batch(ctx, "watch-links", links.String()); err != nil {
		return err
	}
	root := filepath.Join(b.dir, "watch", strconv.Itoa(uplinks))
	if err := os.MkdirAll(filepath.Join(root, "etc/uplink"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "etc/uplink/uplink.toml"), []byte(toml.String()), 0o644); err != nil {
		return err
	}
	control := filepath.Join(b.bin, programs.Control)
	if out, err := exec.CommandContext(ctx, control, "apply", "--root", root).CombinedOutput(); err != nil {
		return fmt.Errorf("apply: %w: %s", err, out)
	}
	if err := b.batch(ctx, "watch-addresses", addresses.String()); err != nil {
		return err
	}

	cmd := exec.CommandContext(ctx, control, "watch", "--root", root)
	var log bytes.Buffer
	cmd.Stderr = &log
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for {
		n, err := ownRules()
		if err != nil {
			return err
		}
		if n == 2*uplinks {
			break
		}
		if time.Since(start) > time.Minute {
			return fmt.Errorf("%d rules of %d after a minute", n, 2*uplinks)
		}
		time.Sleep(10 * time.Millisecond)
	}
	v.limit("until the rules of all are there", float64(time.Since(start).Milliseconds()), maxWatchStart, "%.0f ms")
	for _, measure := range []func(v *verdicts, pid, uplinks int) error{b.delays, b.storm, b.idle} {
		if err := measure(v, cmd.Process.Pid, uplinks); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			text := log.String()
			return fmt.Errorf("%w: the watch: %s, it has said: %s", err, cmd.ProcessState, text[max(0, len(text)-2000):])
		}
	}
	return v.write(b.out)
}

// ownRules counts the rules that the watch has added.
func ownRules() (n int, err error) {
	list, err := netlink.RuleList(netlink.FAMILY_V4)
	for _, r := range list {
		if r.Protocol == 118 {
			n++
		}
	}
	return n, err
}

// address changes an address on w0.
func address(i int, change func(netlink.Link, *netlink.Addr) error) error {
	link, err := netlink.LinkByName("w0")
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(fmt.Sprintf("172.16.%d.%d/32", i/250%250, 1+i%250))
	if err != nil {
		return err
	}
	return change(link, a)
}

// delays measures the time from the answer to a change of an address until the kernel reports its
// rule.
func (b *bencher) delays(v *verdicts, _, uplinks int) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	groups := uint32(1 << (unix.RTNLGRP_IPV4_RULE - 1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	var took []time.Duration
	buf := make([]byte, 64<<10)
	n := leaseChanges
	if uplinks > 100 {
		n /= 10 // each takes as long as a look at all uplinks
	}
	for i := range n {
		for _, change := range []func(netlink.Link, *netlink.Addr) error{netlink.AddrAdd, netlink.AddrDel} {
			start := time.Now()
			if err := address(i, change); err != nil {
				return err
			}
			for heard := 0; heard < 2; { // from and to
				if _, _, err := unix.Recvfrom(fd, buf, 0); err == nil {
					heard++
				} else if !errors.Is(err, unix.EINTR) {
					return fmt.Errorf("change %d: no rule: %w", i, err)
				}
			}
			took = append(took, time.Since(start))
		}
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	middle := fmt.Sprintf("from an address to its rules, median of %d", len(took))
	if uplinks > 100 {
		v.add(middle, fmt.Sprintf("%.2f ms", ms(median(took))))
		v.add("the same, the slowest", fmt.Sprintf("%.2f ms", ms(slices.Max(took))))
		return nil
	}
	v.limit(middle, ms(median(took)), maxMedianDelay, "%.2f ms")
	v.limit("the same, the slowest", ms(slices.Max(took)), maxDelay, "%.2f ms")
	return nil
}

// storm changes addresses at a high rate, and checks that the watch follows the last state of
// each.
func (b *bencher) storm(v *verdicts, pid, uplinks int) error {
	before, err := cpu(pid)
	if err != nil {
		return err
	}
	start, n := time.Now(), 0
	for ; time.Since(start) < stormTime; n++ {
		change := netlink.AddrAdd
		if n/100%2 == 1 {
			change = netlink.AddrDel
		}
		if err := address(n%100, change); err != nil {
			return err
		}
		time.Sleep(time.Until(start.Add(time.Duration(n+1) * time.Second / stormRate)))
	}
	for i := range 100 { // the last states
		_ = address(i, netlink.AddrDel)
		if err := address(i, netlink.AddrAdd); err != nil {
			return err
		}
	}
	end := time.Now()
	for have := 0; have != 2*uplinks+200; {
		if have, err = ownRules(); err != nil {
			return err
		}
		if time.Since(end) > 10*time.Second {
			return fmt.Errorf("%d rules after the storm, not %d: a change was lost", have, 2*uplinks+200)
		}
	}
	settled := time.Since(end)
	after, err := cpu(pid)
	v.add(fmt.Sprintf("until all is right after %d changes in %v", n, stormTime), fmt.Sprintf("%d ms", settled.Milliseconds()))
	v.add("CPU in that time", fmt.Sprintf("%.0f %%", 100*(after-before).Seconds()/(end.Sub(start)+settled).Seconds()))
	return err
}

// idle measures what the watch uses while nothing happens.
func (b *bencher) idle(v *verdicts, pid, _ int) error {
	time.Sleep(10 * time.Second) // for whatever it does after work
	before, err := cpu(pid)
	if err != nil {
		return err
	}
	woken, err := status(pid, "voluntary_ctxt_switches")
	if err != nil {
		return err
	}
	time.Sleep(idleTime)
	after, err1 := cpu(pid)
	again, err2 := status(pid, "voluntary_ctxt_switches")
	kib, err3 := status(pid, "VmRSS")
	if kib == 0 {
		return errors.New("it has ended")
	}
	v.limit(fmt.Sprintf("times woken while idle for %v", idleTime), float64(again-woken), 0, "%.0f")
	v.limit("CPU in that time", (after - before).Seconds(), 0, "%.2f s")
	v.limit("memory after all that", float64(kib), maxWatchKiB, "%.0f KiB")
	return errors.Join(err1, err2, err3)
}

// cpu returns the time that a process has had (proc(5), /proc/PID/stat).
func cpu(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// status returns a number from /proc/PID/status, summed over all threads if each has its own.
func status(pid int, key string) (sum int, err error) {
	files := []string{fmt.Sprintf("/proc/%d/status", pid)}
	if key == "voluntary_ctxt_switches" {
		files, _ = filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return 0, err
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if value, ok := strings.CutPrefix(lines.Text(), key+":"); ok {
				n, _ := strconv.Atoi(strings.Fields(value)[0])
				sum += n
			}
		}
		f.Close()
	}
	return sum, nil
}
