package spec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// tree makes a root directory: a value that begins with "-> " makes a link, one
// that ends with "/" a folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, data := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, isLink := strings.CutPrefix(data, "-> "); isLink {
			err = os.Symlink(target, file)
		} else if data == "/" {
			err = os.Mkdir(file, 0o755)
		} else {
			err = os.WriteFile(file, []byte(data), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestSearchPath checks which files are read, and in which order.
func TestSearchPath(t *testing.T) {
	t.Parallel()
	const (
		main = "uplink/uplink.toml"
		dir  = "uplink/uplink.toml.d/"
	)
	for name, c := range map[string]struct {
		files map[string]string
		want  []string // none for ErrNone
	}{
		"nothing":                             {nil, nil},
		"an empty folder of drop-ins":         {map[string]string{"etc/uplink/uplink.toml.d": "/"}, nil},
		"/etc before /run":                    {map[string]string{"etc/" + main: "", "run/" + main: ""}, []string{"/etc/" + main}},
		"/run before /usr/local/lib":          {map[string]string{"run/" + main: "", "usr/local/lib/" + main: ""}, []string{"/run/" + main}},
		"/usr/local/lib before /usr/lib":      {map[string]string{"usr/local/lib/" + main: "", "usr/lib/" + main: ""}, []string{"/usr/local/lib/" + main}},
		"/usr/lib alone":                      {map[string]string{"usr/lib/" + main: ""}, []string{"/usr/lib/" + main}},
		"neither /usr/share nor other names":  {map[string]string{"usr/share/" + main: "", "etc/" + dir + "a.conf": "", "etc/" + dir + "a.toml~": "", "etc/" + dir + "old\u00a0a.txt": ""}, nil},
		"nor what is not whole yet":           {map[string]string{"etc/" + dir + ".a.toml": "", "etc/" + dir + ".#b.toml": "-> nobody@nowhere"}, nil},
		"drop-ins by name, whatever folder":   {map[string]string{"etc/" + dir + "30.toml": "", "run/" + dir + "10.toml": "", "usr/local/lib/" + dir + "20.toml": "", "usr/lib/" + dir + "40.toml": "", "usr/lib/" + main: ""}, []string{"/usr/lib/" + main, "/run/" + dir + "10.toml", "/usr/local/lib/" + dir + "20.toml", "/etc/" + dir + "30.toml", "/usr/lib/" + dir + "40.toml"}},
		"a drop-in hides its name":            {map[string]string{"etc/" + dir + "10.toml": "", "run/" + dir + "10.toml": "", "usr/lib/" + dir + "10.toml": ""}, []string{"/etc/" + dir + "10.toml"}},
		"a masked drop-in hides it as well":   {map[string]string{"etc/" + dir + "10.toml": "-> /dev/null", "usr/lib/" + dir + "10.toml": "?", "usr/lib/" + dir + "20.toml": ""}, []string{"/usr/lib/" + dir + "20.toml"}},
		"a mask may be relative":              {map[string]string{"etc/" + dir + "10.toml": "-> ../../../dev/null", "usr/lib/" + dir + "10.toml": "?"}, nil},
		"a mask may go through another link":  {map[string]string{"etc/" + dir + "10.toml": "-> /etc/null", "etc/null": "-> /dev/null", "usr/lib/" + dir + "10.toml": "?"}, nil},
		"a masked main file":                  {map[string]string{"etc/" + main: "-> /dev/null", "usr/lib/" + main: "?", "usr/lib/" + dir + "10.toml": ""}, []string{"/usr/lib/" + dir + "10.toml"}},
		"an empty file is no mask but a spec": {map[string]string{"etc/" + main: ""}, []string{"/etc/" + main}},
		"an absolute link stays in the root":  {map[string]string{"etc/" + main: "-> /usr/share/x.toml", "usr/share/x.toml": ""}, []string{"/etc/" + main}},
		"a folder that is a link":             {map[string]string{"etc/uplink": "-> /usr/share/uplink", "usr/share/" + main: ""}, []string{"/etc/" + main}},
		"the credential comes last":           {map[string]string{"run/credentials/@system/uplink.toml": "", "etc/" + dir + "zz.toml": ""}, []string{"/etc/" + dir + "zz.toml", "/run/credentials/@system/uplink.toml"}},
		"the credential alone":                {map[string]string{"run/credentials/@system/uplink.toml": ""}, []string{"/run/credentials/@system/uplink.toml"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Load(rootfs.At(tree(t, c.files)))
			if c.want == nil {
				if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "/usr/lib below /") {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(s.Files, c.want) {
				t.Errorf("read %q, want %q", s.Files, c.want)
			}
		})
	}
}

// TestOverride checks that later files win key by key, the credential over all.
func TestOverride(t *testing.T) {
	t.Parallel()
	s, err := Load(rootfs.At(tree(t, map[string]string{
		"usr/lib/uplink/uplink.toml":              "backend = \"networkd\"\n\n[uplink.a]\ninterface = \"eth0\"\nmetric = 1\nmtu = 1400\n",
		"usr/lib/uplink/uplink.toml.d/10-x.toml":  "uplink.a.metric = 2\n",
		"etc/uplink/uplink.toml.d/20-x.toml":      "[uplink.a]\nmetric = 3\n[uplink.b]\ninterface = \"eth1\"\n",
		"run/credentials/@system/uplink.toml":     "backend = \"netlink\"\n",
		"run/credentials/@system/something.else":  "?",
		"usr/lib/uplink/uplink.toml.d/15-not.txt": "?",
	})))
	if err != nil {
		t.Fatal(err)
	}
	a, b := s.Uplink("a"), s.Uplink("b")
	if s.Backend != Netlink || a.Metric != 3 || a.MTU != 1400 || a.Match.Name != "eth0" || b == nil || s.Uplink("c") != nil {
		t.Errorf("%+v", s)
	}
	if got := a.Origin.String() + " " + b.Origin.String(); got != "/usr/lib/uplink/uplink.toml:3 /etc/uplink/uplink.toml.d/20-x.toml:3" {
		t.Error(got)
	}
}

func TestCredentialsDirectory(t *testing.T) {
	dir := tree(t, map[string]string{"uplink.toml": "", "other": ""})
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if got := CredentialFile(rootfs.At("/")); got != filepath.Join(dir, "uplink.toml") {
		t.Errorf("on the host: %q", got)
	}
	if got := CredentialFile(rootfs.At(tree(t, nil))); got != "" {
		t.Errorf("another root has its own credentials, but got %q", got)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir())
	if got := CredentialFile(rootfs.At("/")); got != "" {
		t.Errorf("without one: %q", got)
	}
}

// TestFileErrors reads files that are no TOML, or no files. The error must come
// at once, and name the file.
func TestFileErrors(t *testing.T) {
	t.Parallel()
	const name = "etc/uplink/uplink.toml"
	utf16le := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune("backend = \"auto\"\n")) {
		utf16le = binary.LittleEndian.AppendUint16(utf16le, u)
	}
	junk := make([]byte, 4096)
	for i := range junk {
		junk[i] = byte(i * i >> 3)
	}
	for what, c := range map[string]struct{ data, want string }{
		"10 MB":                    {strings.Repeat("# a comment of 20 ch\n", 500_000), "cannot be read: too large: more than 8388608 bytes"},
		"a folder":                 {"/", "cannot be read: not a regular file but a directory"},
		"a dangling link":          {"-> /nowhere", "cannot be read: link to a file that does not exist"},
		"a link to itself":         {"-> uplink.toml", "cannot be read: too many levels of symbolic links"},
		"binary junk":              {string(junk), ""},
		"NUL":                      {"backend = \"auto\"\n\x00\n", "2:1: TOML files cannot contain control characters: '0x00'"},
		"NUL first":                {"\x00", "1:1: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8"},
		"invalid UTF-8":            {"# \xff\n", "1:3: invalid UTF-8 byte: 0xff"},
		"invalid UTF-8 in a key":   {"a\xff = 1\n", "1:2: invalid UTF-8 byte: 0xff"},
		"UTF-16":                   {string(utf16le), "the file is not UTF-8, or begins with two byte order marks"},
		"UTF-16 mark before ASCII": {"\xff\xfe\"a\nb\"=" + strings.Repeat("[", 8<<20-20), "the file is not UTF-8, or begins with two byte order marks"},
		"two byte order marks":     {"\ufeff\ufeffbackend = \"auto\"\n", "the file is not UTF-8, or begins with two byte order marks"},
		"BOM before an error":      {"\ufeffbackend = 1\n", "1:11"},
		"CRLF before an error":     {"# x\r\nbackend = 1\r\n", "2:11"},
		"a lone carriage return":   {"backend = \"auto\"\rx = [[[[", "1:17: TOML files cannot contain control characters: '0x0d'"},
		"arrays without end":       {"a = " + strings.Repeat("[", 8<<20-4), "1:37: nested too deeply"},
		"tables without end":       {"a = " + strings.Repeat("{a=", (8<<20-4)/3), "1:99: nested too deeply"},
		"a key without end":        {"a" + strings.Repeat(".a", 4<<20-4) + " = 1", "1:1: nested too deeply"},
		"a header without end":     {"[a" + strings.Repeat(".a", 4<<20-4) + "]", "1:1: nested too deeply"},
		"brackets":                 {strings.Repeat("[", 8<<20), "1:3"},
		"brackets below a comment": {"# \"\"\"\na = \"\"\"\\\"\"\"\"\nb = '''\n'''''\nc = " + strings.Repeat("[[", 4<<20-32), "5:37: nested too deeply"},
		"a string without end":     {"backend = \"" + strings.Repeat("x", 1<<20), "1:1048587"},
		"a long string":            {"backend = \"" + strings.Repeat("x", 1<<20) + "\"", "1:11: `backend` takes"},
		"a long key":               {strings.Repeat("x", 1<<20) + " = 1", "1:1: unknown key"},
		"a long domain":            {"[uplink.a]\ndomains = [\"" + strings.Repeat("x", 1<<20) + "\"]\ninterface = \"eth0\"", "2:12: `domains` is too long: 1048576 bytes"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, err := Load(rootfs.At(tree(t, map[string]string{name: c.data})))
			var list Errors
			if !errors.As(err, &list) || len(list) != 1 {
				t.Fatalf("got %.200v, want one error", err)
			}
			if got := list[0].Error(); !strings.HasPrefix(got, "/"+name+":") || !strings.Contains(got, c.want) || len(list.Detail()) > 2000 {
				t.Errorf("got %.2000s, want %s", list.Detail(), c.want)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestLineEndsAndByteOrderMark(t *testing.T) {
	t.Parallel()
	for what, data := range map[string]string{
		"CRLF": "backend = \"netlink\"\r\n[uplink.a]\r\ninterface = \"eth0\"\r\naddresses = [\r\n\"192.0.2.1/24\",\r\n]\r\n",
		"BOM":  "\ufeffbackend = \"netlink\"\n[uplink.a]\ninterface = \"eth0\"\naddresses = [\"192.0.2.1/24\"]",
	} {
		s, err := Parse("f", []byte(data))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if s.Backend != Netlink || s.Uplinks[0].Origin.Line != 2 || s.Uplinks[0].Addresses[0].String() != "192.0.2.1/24" {
			t.Errorf("%s: %+v", what, s)
		}
	}
}

// TestFIFO checks that reading never waits.
func TestFIFO(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{"etc/uplink/uplink.toml.d": "/"})
	if err := syscall.Mkfifo(filepath.Join(root, "etc/uplink/uplink.toml.d/10.toml"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Load(rootfs.At(root))
	if want := "/etc/uplink/uplink.toml.d/10.toml: cannot be read: not a regular file but a FIFO"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestUnreadable reads as another user if it runs as root, who may read everything.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{"etc/uplink/uplink.toml": ""})
	if err := os.Chmod(filepath.Join(root, "etc/uplink/uplink.toml"), 0); err != nil {
		t.Fatal(err)
	}
	load := func() error { _, err := Load(rootfs.At(root)); return err }
	if os.Geteuid() == 0 {
		// Other users may look into this folder.
		if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
			t.Fatal(err)
		}
		asRoot := load
		load = func() error { return asNobody(asRoot) }
	}
	err := load()
	if want := "/etc/uplink/uplink.toml: cannot be read: permission denied"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// asNobody calls f on a thread that opens files as a user who is not root.
func asNobody(f func() error) error {
	const nobody = 65534
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setfsuid(nobody); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func TestFolderOfDropInsThatIsNone(t *testing.T) {
	t.Parallel()
	_, err := Load(rootfs.At(tree(t, map[string]string{"run/uplink/uplink.toml.d": "x"})))
	if want := "/run/uplink/uplink.toml.d: cannot be listed: not a directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestErrorsInTheOrderOfTheFiles checks that one run reports everything, and that a
// file that cannot be read keeps its place.
func TestErrorsInTheOrderOfTheFiles(t *testing.T) {
	t.Parallel()
	root := rootfs.At(tree(t, map[string]string{
		"1.toml": "/",
		"2.toml": "backend = 1\nmain-routes-first = 1\n",
		"3.toml": "[uplink\n",
		"4.toml": "uplink.a.metric = \"x\"\n",
		"6.toml": "backnd = 1\n",
	}))
	_, err := LoadFiles(root, "/1.toml", "/2.toml", "/3.toml", "/4.toml", "/5.toml", "/6.toml")
	want := strings.Join([]string{
		"/1.toml: cannot be read: not a regular file but a directory",
		"/2.toml:1:11: `backend` takes \"auto\", \"networkd\" or \"netlink\", not a number",
		"/2.toml:2:21: `main-routes-first` takes true or false, not a number",
		"/3.toml:1:8: expected '.' or ']' to end table name, but got '\\n' instead",
		"/4.toml:1:19: `metric` takes a number from 1 to 4294967295, not a string",
		"/5.toml: cannot be read: no such file",
		"/6.toml:1:1: unknown key \"backnd\" (did you mean `backend`?)",
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestManyErrors checks that a large file full of errors is not slow: the
// generator has five seconds.
func TestManyErrors(t *testing.T) {
	t.Parallel()
	for what, data := range map[string]string{
		"lines":         "[uplink.a]\ninterface = \"eth0\"\ndomains = [\n" + strings.Repeat("1,\n", 1<<16) + "]\n",
		"one line":      "[uplink.a]\ninterface = \"eth0\"\ndomains = [" + strings.Repeat("1,", 1<<16) + "]\n",
		"equal entries": "[uplink.a]\ninterface = \"eth0\"\nfrom = [" + strings.Repeat("\"10.0.0.0/8\",", 1<<16) + "]\n",
		"addresses":     "[uplink.a]\ninterface = \"eth0\"\naddresses = [" + strings.Repeat("\"10.0.0.1/8\",", 1<<16) + "]\n",
	} {
		start := time.Now()
		_, err := Parse("f", []byte(data))
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s: took %v", what, took)
		}
		var list Errors
		if !errors.As(err, &list) || len(list) > maxErrors+1 || len(list.Detail()) > 1<<20 {
			t.Errorf("%s: too much is told", what)
		}
	}
}

// TestPrintable checks that what stands in a file, or in its name, can neither
// break the lines of a log nor reach the terminal.
func TestPrintable(t *testing.T) {
	t.Parallel()
	root := rootfs.At(tree(t, map[string]string{
		"a\nb\x1b.toml": "[multipath.uplinks]\n\"x\\u001b\\ny\" = \"z\"\n[uplink]\na.interface = \"\x1b\"\n",
		"c\u0085.toml":  "[uplink.\"x\\ny\"]\ndriver = \"x\"\n[[uplink.\"x\\ny\".rule]]\ntable = \"xny\" # \u202e\n",
	}))
	for _, name := range []string{"/a\nb\x1b.toml", "/c\u0085.toml"} {
		_, err := LoadFiles(root, name)
		var list Errors
		if !errors.As(err, &list) {
			t.Fatal(err)
		}
		checkPrintable(t, list)
		for _, e := range list {
			if strings.Contains(e.Error(), "\n") {
				t.Errorf("%q", e.Error())
			}
		}
	}
}

func checkPrintable(t *testing.T, list Errors) {
	t.Helper()
	if d := list.Detail(); printable(strings.ReplaceAll(d, "\n", "")) != strings.ReplaceAll(d, "\n", "") {
		t.Errorf("not printable: %q", d)
	}
}

// TestReference compares the lists of keys, from which suggestions come, with the
// example that has every key once.
func TestReference(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../integration/examples/reference/root/etc/uplink/uplink.toml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("reference", data); err != nil {
		t.Error(err)
	}
	seen := map[string]bool{}
	scan(data, func(path []string, _ place) {
		var keys []string
		for _, k := range path {
			if !strings.HasPrefix(k, elementMark) {
				keys = append(keys, k)
			}
		}
		switch {
		case len(keys) == 1:
			seen[" "+keys[0]] = true
		case keys[0] == "uplink" && len(keys) == 3:
			seen["uplink "+keys[2]] = true
		case keys[0] == "uplink" && len(keys) > 3:
			seen[strings.Join(keys[2:len(keys)-1], ".")+" "+keys[len(keys)-1]] = true
		default:
			seen[keys[0]+" "+keys[1]] = true
		}
	})
	for table, keys := range map[string][]string{
		"": topKeys, "uplink": uplinkKeys, "multipath": multipathKeys, "probe": probeKeys, "route": routeKeys, "rule": ruleKeys, "route.multipath": nexthopKeys,
	} {
		for _, k := range keys {
			if !seen[table+" "+k] {
				t.Errorf("reference.toml does not show `%s` of [%s]", k, table)
			}
		}
		if !slices.IsSorted(keys) {
			t.Errorf("the keys of [%s] are not sorted", table)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"metrc": "metric", "mertic": "metric", "Metric": "metric", "gatewya": "gateways", "main_routes_first": "main-routes-first",
		"x": "", "colour": "", strings.Repeat("m", 100): "", "": "",
	} {
		if want != "" {
			want = "did you mean `" + want + "`?"
		}
		if got := DidYouMean(word, slices.Concat(uplinkKeys, topKeys)); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

// TestCompileErrorsHavePlaces checks what gen.Compile adds.
func TestCompileErrorsHavePlaces(t *testing.T) {
	t.Parallel()
	s, err := Parse("f", []byte("[uplink.a]\ninterface = \"eth0\"\n\n[[uplink.a.route]]\nto = \"10.0.0.0/8\"\n"))
	if err != nil || s.Err() != nil {
		t.Fatal(err, s.Err())
	}
	s.Fail("second", "help", "uplink", "a", "route", Element(0))
	s.Fail("third", "", "uplink", "a", "route", Element(0), "to")
	s.Fail("first", "", "uplink", "a", "metric")
	s.Fail("first", "", "uplink", "a", "metric") // twice
	for range 3 {
		if got, want := s.Err().Error(), "f:1:2: first\nf:4:3: second (help)\nf:5:1: third"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for i := range 2 * maxErrors {
		s.Fail(fmt.Sprintf("%04d", i), "", "uplink", "a", "metric")
	}
	for range 3 {
		if got := s.Err().Error(); strings.Count(got, "\n") != maxErrors || strings.Count(got, "the rest is not shown") != 1 {
			t.Errorf("%d lines", strings.Count(got, "\n"))
		}
	}
}

func TestParseBackend(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{"auto": true, "networkd": true, "netlink": true, "": false, "Auto": false} {
		if _, ok := ParseBackend(s); ok != want {
			t.Errorf("%q: %v", s, ok)
		}
	}
}
