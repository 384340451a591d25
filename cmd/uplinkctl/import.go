package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
	"github.com/uplink-generator/uplink-generator/cmd/internal/run"
	"github.com/uplink-generator/uplink-generator/gen/importer"
)

const importUsage = `Usage: uplinkctl import [--from SOURCE] [--manage WHO] [--root DIR]
                        [--output FILE [--force] ] [FILE…]

Write a spec from what the host already has: the running kernel,
/etc/network/interfaces, netplan's YAML, .network files, NetworkManager's
profiles, ifcfg files with the route and rule files beside them, or a script of
ip(8) commands. Without FILEs it reads what configures the host, or else the
kernel. It changes nothing. It lists what it cannot carry over, what will change
and what will be added, also at the end of the spec.

Options:
  --from SOURCE   what to read, if the FILEs do not tell: kernel, interfaces,
                  netplan, networkd, networkmanager, ifcfg, script (also a
                  batch for ip)
  --manage WHO    link: the spec takes the links over, addresses included;
                  policy: only routing tables and rules, and the links stay as
                  they are configured now (default: policy, but link if a
                  script adds the addresses)
  --root DIR      the host's root directory (default /)
  --output FILE   write to FILE instead of standard output
  --force         replace FILE if it exists

Exit status: 0 everything was carried over; 1 something was not, and the spec is
written without it, or there is nothing to import; 2 wrong usage.

Examples:
  uplinkctl import
  uplinkctl import --output /etc/uplink/uplink.toml /etc/network/interfaces
  uplinkctl import --from kernel --manage link
  uplinkctl import /etc/rc.local
  uplinkctl import --from ifcfg
`

// importing holds the options of import.
type importing struct {
	from, root, output string
	manage             importer.Manage
	force              bool
}

func importCommand() *command {
	var o importing
	return &command{
		name: "import", usage: importUsage, files: true,
		flags: func(f *flag.FlagSet) {
			f.Func("from", "", func(s string) error {
				switch s {
				case "kernel", "interfaces", "netplan", "networkd", "networkmanager", "ifcfg", "script":
					o.from = s
					return nil
				}
				return errors.New("there are kernel, interfaces, netplan, networkd, networkmanager, ifcfg and script")
			})
			f.Func("manage", "", func(s string) error {
				o.manage = importer.Manage(s)
				if o.manage != importer.ByLink && o.manage != importer.Policy {
					return errors.New("there are link and policy")
				}
				return nil
			})
			rootOption(f, &o.root)
			f.StringVar(&o.output, "output", "", "")
			f.BoolVar(&o.force, "force", false, "")
		},
		run: func(files []string, stdout, stderr io.Writer) int {
			code, err := o.run(files, stdout, stderr)
			switch {
			case errors.Is(err, errImportUsage):
				return wrongUsage(stderr, importUsage, err)
			case err != nil:
				run.Report(stderr, "uplinkctl", err)
				return run.ExitFail
			}
			return code
		},
	}
}

func (o *importing) run(files []string, stdout, stderr io.Writer) (int, error) {
	if o.output != "" && !o.force {
		if _, err := os.Lstat(o.output); err == nil {
			return 0, fmt.Errorf("%s is there already: --force replaces it", o.output)
		}
	}
	source, err := o.source(files)
	if err != nil {
		return 0, err
	}
	found, handOver, err := source.read()
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(stderr, "uplinkctl: read %s\n", source)
	result, err := importer.Make(found, importer.Options{Manage: o.manage})
	if err != nil {
		for _, l := range result.Lost {
			fmt.Fprintf(stderr, "not carried over: %s\n", l)
		}
		return 0, err
	}
	text := result.TOML
	if handOver != nil {
		text += handOverText(host.HandOver(result.State, *handOver))
	}
	for _, l := range result.Lines() {
		fmt.Fprintln(stderr, l)
	}
	if o.output == "" {
		_, err = io.WriteString(stdout, text)
	} else if err = writeNew(o.output, text, o.force); err == nil {
		fmt.Fprintf(stderr, "uplinkctl: written %s\n", o.output)
	}
	if len(result.Lost) > 0 {
		return run.ExitFail, err
	}
	return run.ExitOK, err
}

// writeNew writes a file aside and renames it. Without force it never replaces a file, even one
// that has appeared meanwhile.
func writeNew(name, text string, force bool) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if force {
		return os.Rename(tmp.Name(), name)
	}
	if err = os.Link(tmp.Name(), name); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: --force replaces it", name)
	}
	return err
}
