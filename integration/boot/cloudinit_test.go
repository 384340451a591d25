package boot_test

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/uplink-generator/uplink-generator/integration/boot"
)

// seed is what a provider gives a machine: cloud-init takes it from files, as its
// datasource NoCloud.
type seed struct{ userData, vendorData, networkConfig string }

const (
	nothing = "#cloud-config\n{}\n"

	// cards makes cloud-init configure the cards, and nothing that depends on a source.
	cards = `version: 2
ethernets:
  eth0:
    addresses: [192.0.2.10/24]
    routes: [{to: 0.0.0.0/0, via: 192.0.2.1}]
  eth1:
    addresses: [198.51.100.10/24]
`
)

// exampleOf returns a file of the example for cloud-init.
func exampleOf(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("../examples/cloud-init/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// writesPolicy returns user-data that writes the example's spec, which leaves the
// addresses to cloud-init.
func writesPolicy(t *testing.T) string {
	spec := strings.TrimSpace(exampleOf(t, "root"+specFile))
	return "#cloud-config\nwrite_files:\n- path: " + specFile + "\n  content: |\n    " + strings.ReplaceAll(spec, "\n", "\n    ") + "\n"
}

// cloud returns a machine with cloud-init, in which only networkd configures the network, if
// anybody does, and with what cloud-init needs in a container.
func cloud(suite boot.Suite, s seed, renderer string) boot.Config {
	const (
		seedDir = "/var/lib/cloud/seed/nocloud/"
		units   = "/etc/systemd/system/"
	)
	// The modules that are switched off need programs that are not installed.
	config := "datasource_list: [NoCloud]\nusers: []\nlocale: false\nssh_genkeytypes: []\n"
	if renderer != "" {
		// It would use ifupdown, which is installed.
		config += "system_info: {network: {renderers: [" + renderer + "]}}\n"
	}
	files := map[string]boot.File{
		"/etc/cloud/cloud.cfg.d/90-lab.cfg": boot.Text(config),
		seedDir + "meta-data":               boot.Text("instance-id: lab\nlocal-hostname: machine\n"),
		seedDir + "user-data":               boot.Text(s.userData),
		seedDir + "vendor-data":             boot.Text(s.vendorData),
		seedDir + "network-config":          boot.Text(s.networkConfig),

		units + "NetworkManager.service":             boot.Masked,
		units + "NetworkManager-wait-online.service": boot.Masked,
		units + "networking.service":                 boot.Masked,
		// There is no udevd that could be told of a renamed card.
		units + "netplan-configure.service.d/lab.conf": boot.Text("[Service]\nExecStartPost=\n"),
	}
	if renderer == "" {
		// Before cloud-init writes the spec networkd has no link to wait for, and waits
		// for two minutes: see TestCloudInitWaitsForTheNetwork.
		files[units+waitOnline] = boot.Masked
		return boot.Config{Root: fat(suite), Files: files}
	}
	// netplan would wait for systemd-resolved, which is not installed.
	files[units+waitOnline+".d/lab.conf"] = boot.Text("[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online\n")
	for _, card := range recipeCards {
		// No provider here advertises itself, and networkd 252 waits 12 seconds for that.
		files["/etc/systemd/network/10-"+renderedName[renderer]+"-"+card+".network.d/lab.conf"] = boot.Text("[Network]\nIPv6AcceptRA=no\n")
	}
	return boot.Config{Root: fat(suite), Files: files, Enable: []string{networkd}}
}

const waitOnline = "systemd-networkd-wait-online.service"

// renderedName is the part after "10-" of the names of the files for networkd, by the program
// that cloud-init uses to render them.
var renderedName = map[string]string{"networkd": "cloud-init", "netplan": "netplan"}

// TestCloudInit boots machines whose spec is not in the image, twice: at the first boot
// everything must be right at the end, and before the modules that come with the network on. If
// the user-data calls for a reload, as many instructions say, that finds nothing left to do.
func TestCloudInit(t *testing.T) {
	t.Parallel()
	user, leftAlone := exampleOf(t, "user-data"), exampleOf(t, "network-config")
	policy := writesPolicy(t)
	const reloads = "runcmd:\n- 'uplinkctl diff > /root/before 2>&1; echo $? >> /root/before'\n- [uplinkctl, reload]\n"
	for name, c := range map[string]struct {
		seed       seed
		renderer   string
		networkd   bool
		credential string
		each       func(*testing.T, func(*testing.T, boot.Suite))
	}{
		"networkd":            {seed: seed{user, nothing, leftAlone}, networkd: true, each: eachFat},
		"netlink":             {seed: seed{user + reloads, nothing, leftAlone}, each: eachFat},
		"vendor-data":         {seed: seed{nothing, user, leftAlone}, each: oneFat},
		"rendered":            {seed: seed{policy + reloads, nothing, cards}, renderer: "networkd", networkd: true, each: eachFat},
		"rendered by netplan": {seed: seed{policy, nothing, cards}, renderer: "netplan", networkd: true, each: everyFat},
		"credential":          {seed: seed{nothing, nothing, cards}, renderer: "networkd", networkd: true, credential: exampleOf(t, "root"+specFile), each: oneFat},
	} {
		t.Run(name, func(t *testing.T) {
			c.each(t, func(t *testing.T, suite boot.Suite) {
				config := cloud(suite, c.seed, c.renderer)
				config.Product = installed(t)
				if c.networkd {
					config.Enable = []string{networkd}
				}
				if c.credential != "" {
					config.Credentials = map[string]string{"uplink.toml": c.credential}
				}
				// It is degraded where the last command of the user-data fails.
				h := booted(t, config, "running")
				h.cloudInitRan()
				if strings.HasSuffix(c.seed.userData, reloads) {
					if before := h.must("cat", "/root/before"); before != "0\n" {
						t.Errorf("before the reload there was left:\n%s", before)
					}
					if out := h.must("cat", "/var/log/cloud-init-output.log"); strings.Contains(out, "uplink") {
						t.Errorf("the reload said something:\n%s", out)
					}
				}
				// Nothing has to be waited for.
				if out, err := h.Run(h.ctx, "uplinkctl", "diff"); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
				h.settled()
				h.works()
				h.clean()
				late := c.credential == ""
				h.cloudTimes("first", late)
				first := h.network()
				if got := strings.Contains(first, "proto 118"); got == c.networkd {
					t.Errorf("through netlink: %t:\n%s", got, first)
				}
				if written := strings.Contains(h.journal("--unit=uplink-reload.service"), "written"); written != late {
					t.Errorf("uplink-reload.service wrote: %t", written)
				}
				if c.renderer != "" {
					h.extends("10-" + renderedName[c.renderer])
				}

				if err := h.Reboot(h.ctx); err != nil {
					t.Fatal(err)
				}
				h.wait("running")
				h.cloudInitRan()
				h.settled()
				h.works()
				h.clean()
				h.cloudTimes("second", false)
				if second := h.network(); second != first {
					t.Errorf("the first boot made\n%s\nthe second\n%s", first, second)
				}
				if log := h.journal("--unit=uplink-reload.service"); strings.Contains(log, "written") {
					t.Errorf("there was something to do at the second boot:\n%s", log)
				}
			})
		})
	}
}

// extends wants both cards to be configured with somebody else's file, and ours to
// extend it.
func (h *host) extends(prefix string) {
	h.t.Helper()
	for _, card := range recipeCards {
		name := prefix + "-" + card + ".network"
		index := strings.TrimSpace(h.must("cat", "/sys/class/net/"+card+"/ifindex"))
		if state := h.must("cat", "/run/systemd/netif/links/"+index); !strings.Contains(state, "/"+name+"\n") {
			h.t.Errorf("%s: no %s in\n%s", card, name, state)
		}
		h.must("test", "-f", "/run/systemd/network/"+name+".d/10-uplink-"+card+".conf")
	}
}

// cloudInitRan checks that cloud-init has taken the seed, and has finished without an error.
func (h *host) cloudInitRan() {
	h.t.Helper()
	result := h.must("cat", "/run/cloud-init/result.json")
	if !strings.Contains(result, "DataSourceNoCloud") || !strings.Contains(result, `"errors": []`) {
		h.t.Errorf("cloud-init: %s\n%s", result, h.must("cat", "/var/log/cloud-init.log"))
	}
}

// cloudTimes checks that the spec is in effect after cloud-init has written it, and before the
// modules that come with the network on; and reports when that was.
func (h *host) cloudTimes(boot string, late bool) {
	h.t.Helper()
	at := func(property string, unit ...string) time.Duration {
		args := append([]string{"show", "--value", "--property=" + property + "TimestampMonotonic"}, unit...)
		text := strings.TrimSpace(h.must("systemctl", args...))
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			h.t.Fatalf("%s of %q: %v", property, unit, err)
		}
		return time.Duration(n) * time.Microsecond
	}
	start := at("Userspace")
	network := "cloud-init-network.service" // since 24.3
	if h.must("systemctl", "show", "--value", "--property=LoadState", network) != "loaded\n" {
		network = "cloud-init.service"
	}
	written, begun, done := at("ExecMainExit", network), at("ExecMainStart", "uplink-reload.service"), at("ExecMainExit", "uplink-reload.service")
	online, modules := at("ActiveEnter", "network-online.target"), at("ExecMainStart", "cloud-config.service")
	if !slices.IsSorted([]time.Duration{start, written, begun, done, online, modules}) {
		h.t.Errorf("not in this order: %s ended %v, uplink-reload.service began %v and ended %v, network-online.target %v, cloud-config.service %v", network, written, begun, done, online, modules)
	}
	round := func(d time.Duration) time.Duration { return max(0, d-start).Round(10 * time.Millisecond) }
	h.t.Logf("%s boot: local stage %v, networkd %v, network stage %v to %v, uplink-reload %v to %v (late %t), network-online %v, modules %v, booted %v", boot,
		round(at("ExecMainExit", "cloud-init-local.service")), round(at("ActiveEnter", networkd)),
		round(at("ExecMainStart", network)), round(written), round(begun), round(done), late, round(online), round(modules), round(at("Finish")))
}

// TestCloudInitWithoutTheProduct is the control: with the same seeds alone, not both cards
// answer.
func TestCloudInitWithoutTheProduct(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		seed     seed
		renderer string
		answers  []string // the cards whose address answers
	}{
		"networkd":            {seed: seed{exampleOf(t, "user-data"), nothing, exampleOf(t, "network-config")}},
		"rendered":            {seed{writesPolicy(t), nothing, cards}, "networkd", []string{"eth0"}},
		"rendered by netplan": {seed{writesPolicy(t), nothing, cards}, "netplan", []string{"eth0"}},
	} {
		t.Run(name, func(t *testing.T) {
			oneFat(t, func(t *testing.T, suite boot.Suite) {
				config := cloud(suite, c.seed, c.renderer)
				config.Enable = []string{networkd}
				h := booted(t, config, "running")
				h.cloudInitRan()
				h.must("test", "-f", specFile)
				if c.renderer != "" {
					if err := h.lab.Host.WaitAddresses(h.ctx, recipeAddrs...); err != nil {
						t.Fatal(err)
					}
				}
				if err := h.lab.Host.WaitSettled(h.ctx); err != nil {
					t.Fatal(err)
				}
				for _, a := range h.answers() {
					if want := slices.Contains(c.answers, recipeCards[a.Addr]); a.Answered != want {
						t.Errorf("%s; want answered %t", a, want)
					}
				}
			})
		})
	}
}

// TestCloudInitWaitsForTheNetwork shows why the image of a machine with networkd, whose links
// only the user-data's spec configures, should not wait for them: cloud-init writes the spec only
// after systemd-networkd-wait-online.service has given up. Even then everything is right.
func TestCloudInitWaitsForTheNetwork(t *testing.T) {
	oneFat(t, func(t *testing.T, suite boot.Suite) {
		const timeout = "3" // by default 120
		config := cloud(suite, seed{exampleOf(t, "user-data"), nothing, exampleOf(t, "network-config")}, "")
		config.Product, config.Enable = installed(t), []string{networkd}
		files := maps.Clone(config.Files)
		delete(files, "/etc/systemd/system/"+waitOnline)
		files["/etc/systemd/system/"+waitOnline+".d/lab.conf"] = boot.Text("[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --timeout=" + timeout + "\n")
		config.Files = files
		h := booted(t, config, "degraded")
		if failed, err := h.FailedUnits(h.ctx); err != nil || !slices.Equal(failed, []string{waitOnline}) {
			t.Errorf("failed units: %v %v", failed, err)
		}
		h.settled()
		h.works()
		h.cloudTimes("first", true)

		if err := h.Reboot(h.ctx); err != nil {
			t.Fatal(err)
		}
		h.wait("running") // nobody has given up
		h.settled()
		h.works()
		h.clean()
		h.cloudTimes("second", false)
	})
}

// TestThePageShowsTheUserData holds the page to the files that the tests boot with.
func TestThePageShowsTheUserData(t *testing.T) {
	page, err := os.ReadFile("../../cmd/uplinkctl/doc/cloud-init.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"user-data", "network-config", "root" + specFile} {
		text := ""
		for line := range strings.Lines(exampleOf(t, file)) {
			if !strings.HasPrefix(line, "# ") {
				text += line
			}
		}
		if block := "\n" + strings.TrimLeft(text, "\n") + "```\n"; !strings.Contains(string(page), block) {
			t.Errorf("%s: the page does not show\n%s", file, text)
		}
	}
}
