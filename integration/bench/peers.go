package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// peers are other people's programs, where distributions install them.
var (
	networkGenerator = []string{"/usr/lib/systemd/systemd-network-generator", "/lib/systemd/systemd-network-generator"}
	netplanGenerate  = []string{"/usr/libexec/netplan/generate", "/usr/lib/netplan/generate", "/lib/netplan/generate"}
	systemPython     = []string{"/usr/bin/python3"}
)

// pythonPackages is where Debian's Python packages are.
const pythonPackages = "usr/lib/python3/dist-packages"

// installed returns the first of several places where a program is, or "".
func installed(places []string) string {
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// installed returns the first of several places that has a program, or "".
func (b *bencher) cloudInitAt() string {
	for _, root := range []string{b.unpacked, "/"} {
		dir := filepath.Join(root, pythonPackages)
		if root != "" && installed([]string{filepath.Join(dir, "cloudinit", "net", "networkd.py")}) != "" && installed(systemPython) != "" {
			return dir
		}
	}
	return ""
}

// renderers returns the programs that write the files of n uplinks, each with its own directories
// below dir, ours first.
func (b *bencher) renderers(in input, dir string) ([]contestant, error) {
	ours, plan, net, err := in.roots(dir)
	if err != nil {
		return nil, err
	}
	out := filepath.Join(dir, "output")
	list := []contestant{{
		name: render, argv: []string{filepath.Join(b.bin, "uplinkctl"), "render", "--root", ours, "--output", out},
		output: []string{out}, files: in.n + 2,
	}}
	if p := installed(netplanGenerate); p != "" {
		list = append(list, contestant{name: peerPlan, argv: []string{p, "--root-dir", plan}, output: []string{plan + "/run"}, files: in.n})
	}
	if p := installed(networkGenerator); p != "" {
		list = append(list, contestant{
			name: peerNet, argv: append([]string{p, "--root=" + net, "--"}, in.commandLine()...), output: []string{net + "/run"}, files: in.n,
		})
	}
	if p := b.cloudInitAt(); p != "" {
		out := filepath.Join(dir, "cloud-init")
		list = append(list, contestant{
			name: peerCloud, env: []string{"PYTHONPATH=" + p},
			argv: []string{
				installed(systemPython), "-m", "cloudinit.cmd.main", "devel", "net-convert", "--network-data", plan + "/etc/netplan/50-bench.yaml",
				"--kind", "yaml", "--directory", out, "--distro", "photon", "--output-kind", "networkd",
			},
			output: []string{out}, files: in.n,
		})
	}
	return list, nil
}

// machine describes what the benchmark ran on: everything that the figures depend on and that the
// reader can have too, and nothing that identifies this machine.
func (b *bencher) machine(ctx context.Context) string {
	first := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).Output()
		line, _, _ := strings.Cut(string(out), "\n")
		if err != nil || line == "" {
			return "not installed here"
		}
		return line
	}
	word := func(line string, i int) string {
		if words := strings.Fields(line); i < len(words) && !strings.HasPrefix(line, "not ") {
			return strings.Trim(words[i], ",")
		}
		return line
	}
	kernel, _, _ := strings.Cut(first("uname", "-r"), "-")
	iproute := strings.TrimPrefix(word(first("ip", "-V"), 2), "iproute2-")
	netplan := first("dpkg-query", "--show", "--showformat=${Version}", "netplan.io")
	cloud := "not installed here"
	if dir := b.cloudInitAt(); dir != "" {
		cmd := exec.CommandContext(ctx, installed(systemPython), "-c", "import cloudinit.version; print(cloudinit.version.version_string())")
		cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
		if out, err := cmd.Output(); err == nil {
			cloud = strings.TrimSpace(string(out))
		}
	}
	return fmt.Sprintf("%d processors (%s), Linux %s, %s, systemd %s, iproute2 %s, netplan %s, cloud-init %s",
		runtime.NumCPU(), runtime.GOARCH, kernel, runtime.Version(), word(first("systemctl", "--version"), 1), iproute, netplan, cloud)
}
