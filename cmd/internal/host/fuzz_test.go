package host

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/rootfs"
	"github.com/uplink-generator/uplink-generator/gen/spec"
	"github.com/uplink-generator/uplink-generator/units"
)

// FuzzRecords puts arbitrary bytes into the files that one run leaves for the next: each is read,
// or the error names the file, and what was read is written the same again.
func FuzzRecords(f *testing.F) {
	state := fib.State{Links: []fib.Link{{Name: "eth0", Match: fib.Match{Name: "eth0"}}}, Tables: []fib.Table{{ID: 1, Name: "rt2"}}}
	for _, v := range []any{
		Effective{Backend: spec.Auto, State: state}, []Health{{Verdict: fib.Verdict{Uplink: "isp1", Family: fib.Inet}}},
		progress{Version: recordVersion, PID: 1, Started: 1, Deadline: 1}, record{Version: recordVersion, Files: units.Tree{{Path: "/x", Data: []byte("x")}}},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{"", "null", "[]", "{}", `{"State":{"Rules":[{}]}}`, `{"version":1,"held":{"Routes":[{"Nexthops":[{}]}]}}`, `[{"Uplink":"\u001b[31m"}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		for _, name := range []string{inEffectFile, ownDir + "/" + healthFile, tryDir + "/" + progressFile, tryDir + "/" + recordFile, ownDir + "/lock"} {
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		h := &Host{Root: rootfs.At(dir)}
		if e, there, err := h.Effective(); err == nil && there {
			state := e.State.Clone()
			state.LeaveToNetworkd(func(string) bool { return true })
			state.Sort()
			_, _ = state.DropFamily(fib.Inet6), state.Text()
			if err := h.MarkInEffect(e); err != nil {
				t.Fatal(err)
			}
			again, _, err := h.Effective()
			one, err1 := json.Marshal(e)
			two, err2 := json.Marshal(again)
			if err != nil || err1 != nil || err2 != nil || string(one) != string(two) {
				t.Errorf("%s was written, and %s read: %v", one, two, err)
			}
		}
		_, _ = h.readHealth()
		if _, p, err := readTry(h.Root); err == nil {
			_ = p.left()
		}
		var r record
		if readJSON(filepath.Join(dir, tryDir, recordFile), &r) == nil {
			_ = lines(r.Held)
			_ = r.own(r.Held)
		}
	})
}
