package spec

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// TestExposures looks at images whose spec others can write, in every way.
func TestExposures(t *testing.T) {
	const main, dropIn, dropIns = "etc/uplink/uplink.toml", "etc/uplink/uplink.toml.d/10.toml", "etc/uplink/uplink.toml.d"
	tests := map[string]struct {
		modes map[string]os.FileMode
		links map[string]string
		want  []string // beginnings
	}{
		"nobody but root":            {nil, nil, nil},
		"only root may read it":      {map[string]os.FileMode{main: 0o600, "etc/uplink": 0o700}, nil, nil},
		"the group":                  {map[string]os.FileMode{main: 0o664}, nil, []string{"/etc/uplink/uplink.toml: warning: its group can write it (mode 0664)"}},
		"anybody":                    {map[string]os.FileMode{main: 0o646}, nil, []string{"/etc/uplink/uplink.toml: warning: anybody can write it (mode 0646)"}},
		"a drop-in":                  {map[string]os.FileMode{dropIn: 0o666}, nil, []string{"/etc/uplink/uplink.toml.d/10.toml: warning: anybody can write it"}},
		"the directory of drop-ins":  {map[string]os.FileMode{dropIns: 0o777 | os.ModeSticky}, nil, []string{"/etc/uplink/uplink.toml.d: warning: anybody can write it (mode 0777)"}},
		"the directory":              {map[string]os.FileMode{"etc/uplink": 0o775}, nil, []string{"/etc/uplink: warning: its group can write it"}},
		"one above":                  {map[string]os.FileMode{"etc": 0o777}, nil, []string{"/etc: warning: anybody can write it"}},
		"one above that is sticky":   {map[string]os.FileMode{"etc": 0o777 | os.ModeSticky}, nil, nil},
		"an empty one of another":    {map[string]os.FileMode{"usr/lib/uplink/uplink.toml.d": 0o777}, nil, []string{"/usr/lib/uplink/uplink.toml.d: warning: anybody can write it"}},
		"a link inside":              {nil, map[string]string{"etc/uplink/uplink.toml.d/20.toml": "../../../usr/lib/uplink/other"}, nil},
		"a mask":                     {nil, map[string]string{"etc/uplink/uplink.toml.d/20.toml": "/dev/null"}, nil},
		"a link out":                 {nil, map[string]string{"etc/uplink/uplink.toml.d/20.toml": "/srv/spec.toml"}, []string{"/etc/uplink/uplink.toml.d/20.toml: warning: it is a link to /srv/spec.toml, out of the directories for specs"}},
		"a link to what others have": {map[string]os.FileMode{"srv": 0o777}, map[string]string{"etc/uplink/uplink.toml.d/20.toml": "../../../srv/spec.toml"}, []string{"/etc/uplink/uplink.toml.d/20.toml: warning: it is a link to /srv/spec.toml", "/srv: warning: anybody can write it"}},
		"a directory that is a link": {nil, map[string]string{"run/uplink": "/srv"}, []string{"/run/uplink: warning: it is a link to /srv"}},
		"/usr/local that is a link":  {nil, map[string]string{"usr/local": "/var/usrlocal"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range []string{main, dropIn, "usr/lib/uplink/uplink.toml.d/50.toml", "usr/lib/uplink/other", "srv/spec.toml", "dev/null", "run/x", "var/usrlocal/lib/uplink/uplink.toml.d/60.toml"} {
				put(t, filepath.Join(dir, f), "")
			}
			for f, target := range tt.links {
				if err := os.Symlink(target, filepath.Join(dir, f)); err != nil {
					t.Fatal(err)
				}
			}
			for f, mode := range tt.modes {
				if err := os.Chmod(filepath.Join(dir, f), mode); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, e := range Exposures(rootfs.At(dir)) {
				got = append(got, e.String())
			}
			slices.Sort(got)
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("got %q, want %q", got[i], tt.want[i])
				}
			}
		})
	}
}

// TestExposuresOfManyFiles wants each directory to be named once.
func TestExposuresOfManyFiles(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a", "b", "c"} {
		put(t, filepath.Join(dir, "etc/uplink/uplink.toml.d", n+".toml"), "")
	}
	if err := os.Chmod(filepath.Join(dir, "etc/uplink/uplink.toml.d"), 0o777); err != nil {
		t.Fatal(err)
	}
	if found := Exposures(rootfs.At(dir)); len(found) != 1 || found[0].Help != "`chmod go-w "+filepath.Join(dir, "etc/uplink/uplink.toml.d")+"`" {
		t.Error(found)
	}
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
